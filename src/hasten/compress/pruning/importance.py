"""How much each channel of a group matters: what pruning takes away first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hasten.compress.pruning.groups import ChannelGroup, Member, per_channel
from hasten.compress.step import Context
from hasten.errors import RefusedError
from hasten.graph import initializer_arrays

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["Importance", "Importances", "importances"]

#: Which measure of importance: weights, gradients, or the scales of batch norms.
Importance = Literal["magnitude", "taylor", "batch_norm"]
#: For each group by name, a value >= 0 for each of its channels, float64 [size].
Importances: TypeAlias = Mapping[str, npt.NDArray[np.float64]]


def importances(
    model: Model, groups: Sequence[ChannelGroup], kind: Importance, context: Context
) -> Importances:
    """Return the importance of each channel of these groups of the model.

    ``magnitude`` is the L2 norm of the weights that make a channel, averaged over the layers that
    make it (Li et al., "Pruning Filters for Efficient ConvNets", arXiv 1608.08710, with L1).
    ``batch_norm`` is the absolute scale of its batch norm (Liu et al., "Learning Efficient
    Convolutional Networks through Network Slimming", arXiv 1708.06519). ``taylor`` is what the loss
    is estimated to change, see ``hasten.compress.pruning.taylor``.

    Raises RefusedError where a group has no batch norm, or there are no samples for gradients.
    """
    return _KINDS[kind](model, groups, context)


def _magnitude(model: Model, groups: Sequence[ChannelGroup], context: Context) -> Importances:
    del context
    arrays = initializer_arrays(model.graph.graph)

    def norm(member: Member) -> npt.NDArray[np.float64]:
        squares = np.square(arrays[member.constant], dtype=np.float64)
        return np.asarray(np.sqrt(per_channel(squares, member)))

    return {group.name: np.mean([norm(one) for one in group.producers], axis=0) for group in groups}


def _batch_norm(model: Model, groups: Sequence[ChannelGroup], context: Context) -> Importances:
    del context
    arrays = initializer_arrays(model.graph.graph)
    found = {}
    for group in groups:
        scales = [
            per_channel(np.abs(arrays[member.constant]), member) / member.indices.shape[1]
            for member in group.members
            if member.role == "norm_scale"
        ]
        if not scales:
            raise RefusedError(
                f"importance by batch norm: the channels of {group.name} pass none; "
                "prune before they are folded, or by magnitude"
            )
        found[group.name] = np.mean(scales, axis=0)
    return found


def _taylor(model: Model, groups: Sequence[ChannelGroup], context: Context) -> Importances:
    from hasten.compress.pruning.taylor import taylor_importances  # needs the extra torch

    return taylor_importances(model, groups, context)


_KINDS: dict[Importance, Callable[[Model, Sequence[ChannelGroup], Context], Importances]] = {
    "magnitude": _magnitude,
    "taylor": _taylor,
    "batch_norm": _batch_norm,
}
