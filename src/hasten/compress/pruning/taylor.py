"""Importance by gradients: how much the loss is estimated to change without a channel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hasten.compress.pruning.groups import ChannelGroup, Member, per_channel
from hasten.compress.step import Context
from hasten.errors import RefusedError
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
    Runs on the CPU. Raises RefusedError where there are no samples, or torch cannot run the graph.

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
            _loss(module, feed, valid, labels).backward()
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
) -> torch.Tensor:
    import torch

    inputs = {name: torch.from_numpy(np.array(array)) for name, array in feed.items()}
    outputs = [value[:valid] for value in module(inputs).values()]
    if labels is not None:
        return torch.nn.functional.cross_entropy(outputs[0], torch.from_numpy(np.array(labels)))
    return sum((value.square().sum() for value in outputs), torch.zeros(())) / (2 * valid)


def _change(module: GraphModule, member: Member) -> npt.NDArray[np.float64]:
    """Sum weight * gradient over what each channel has of a weight; 0 where it has no gradient."""
    parameter = module.parameter_of(member.constant)
    if parameter is None or parameter.grad is None:
        return np.zeros(len(member.indices))
    return per_channel((parameter.detach() * parameter.grad).numpy(), member)
