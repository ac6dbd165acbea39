"""Importance by gradients: how much the loss is estimated to change without a channel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hasten.compress.pruning.groups import ChannelGroup, Member, per_channel
from hasten.compress.step import Context
from hasten.errors import DataError, RefusedError
from hasten.train import GraphModule

if TYPE_CHECKING:
    import torch

    from hasten.graph import Model

__all__ = ["taylor_importances"]

_BATCH = 8
_BATCHES = 16


def taylor_importances(
    model: Model, groups: Sequence[ChannelGroup], context: Context
) -> dict[str, npt.NDArray[np.float64]]:
    """Return ``|sum of weight * gradient|`` of each channel, float64 [size] by group name.

    The sum is over the weights that make the channel, and its absolute value the mean over up to
    128 calibration samples, in batches of 8. With labels the loss is the cross entropy of the first
    output; without, half the squares of all outputs, so that what moves them most counts most.
    Runs on the CPU. Raises RefusedError where there are no samples, or torch cannot run the graph,
    DataError where the labels are no classes of the first output.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019 (arXiv
    1906.10771), equation 8 with the absolute value for the square.
    """
    samples = context.calibration
    if samples is None:
        raise RefusedError("importance by gradients needs calibration samples")
    module = GraphModule(model.graph)
    found = {group.name: np.zeros(group.size) for group in groups}
    batches = list(islice(samples.batches(model.signature, _BATCH), _BATCHES))
    first = 0
    with context.progress.stage("weighing channels", len(batches)) as advance:
        for feed, valid in batches:
            labels = None if samples.labels is None else samples.labels[first : first + valid]
            first += valid
            module.zero_grad()
            _loss(module, feed, valid, labels, samples.source).backward()
            for group in groups:
                found[group.name] += np.abs(
                    sum(_change(module, member) for member in group.producers)
                ) / len(batches)
            advance(1)
    return found


def _loss(
    module: GraphModule,
    feed: dict[str, npt.NDArray[np.generic]],
    valid: int,
    labels: npt.NDArray[np.int64] | None,
    source: str,
) -> torch.Tensor:
    import torch

    inputs = {name: torch.from_numpy(np.array(array)) for name, array in feed.items()}
    outputs = {name: value[:valid] for name, value in module(inputs).items()}
    if labels is not None:
        name, scores = next(iter(outputs.items()))
        _require_fit(name, tuple(scores.shape), labels, source)
        return torch.nn.functional.cross_entropy(scores, torch.from_numpy(np.array(labels)))
    squares = (value.square().sum() for value in outputs.values())
    return sum(squares, torch.zeros(())) / (2 * valid)


def _require_fit(
    name: str, shape: tuple[int, ...], labels: npt.NDArray[np.int64], source: str
) -> None:
    """Raise DataError unless the labels are classes that an output has scores for."""
    classes = int(labels.max()) + 1
    if shape[:1] == labels.shape and len(shape) == 2 and shape[1] >= classes:  # noqa: PLR2004
        return
    raise DataError(
        expected=f"labels that output {name} of shape {list(shape)} has a score for, [n, classes]",
        got=f"{len(labels)} labels up to {classes - 1}",
        where=source,
        hint="importance by gradients without labels takes half the squares of all outputs",
    )


def _change(module: GraphModule, member: Member) -> npt.NDArray[np.float64]:
    """Sum weight * gradient over what each channel has of a weight; 0 where it has no gradient."""
    parameter = module.parameter_of(member.constant)
    if parameter is None or parameter.grad is None:
        return np.zeros(len(member.indices))
    return per_channel((parameter.detach() * parameter.grad).numpy(), member)
