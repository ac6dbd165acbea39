"""A few steps of any user's loop, in which everything that can be trained moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch

from zoo.architecture import Arrays

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Moved", "shake", "train_some"]

#: How far ``shake`` moves each value: a share of the tensor's own size, and vectors a bit more,
#: for they may be all zero.
_SHARE, _MORE = 0.1, 0.02
_DRAWN_AXES = 2


class Moved(NamedTuple):
    """The loss before the first step, and the lowest of those after it, on the same samples."""

    before: float
    after: float


def train_some(
    module: nn.Module, samples: Arrays, *, steps: int, rate: float, batch: int, seed: int
) -> Moved:
    """Train by AdamW towards other outputs: offset by noise along the first two axes.

    The loss is the squared error over the variance of what is wanted, a mean over outputs, on the
    first ``batch`` samples.
    """
    feed = {name: torch.from_numpy(value[:batch]) for name, value in samples.items()}
    module.train()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        first = _floats(module(feed))
    wanted = {
        name: value + value.std() * _noise(value.shape, random) for name, value in first.items()
    }
    trained = [each for each in module.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate)
    losses = []
    for _ in range(steps):
        loss = _loss(_floats(module(feed)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        losses.append(float(_loss(_floats(module(feed)), wanted)))
    module.eval()
    return Moved(losses[0], min(losses[1:]))


def shake(module: nn.Module, seed: int) -> None:
    """Move everything that is trained at random, so that nothing can be lost without being seen.

    A few steps of an optimizer leave many a bias where it was, to within a rounding of int8.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            if value.requires_grad:
                far = _SHARE * float(value.square().mean().sqrt()) + _MORE * (value.ndim < 2)
                value.add_(far * torch.randn(value.shape, generator=random))


def _noise(shape: torch.Size, random: torch.Generator) -> torch.Tensor:
    """Draw [n, c, 1, ...]: noise of every pixel could not be learnt."""
    along = [size if axis < _DRAWN_AXES else 1 for axis, size in enumerate(shape)]
    return torch.randn(along, generator=random)


def _floats(outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in outputs.items() if value.is_floating_point()}


def _loss(outputs: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> torch.Tensor:
    each = [
        (outputs[name] - value).square().mean() / value.var().clamp(min=1e-12)
        for name, value in wanted.items()
    ]
    return torch.stack(each).mean()
