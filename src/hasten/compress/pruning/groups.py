"""Groups of channels that can only go together, found in any ONNX graph.

The idea of a dependency graph between layers is from Fang et al., "DepGraph: Towards Any Structural
Pruning", CVPR 2023 (arXiv 2301.12900); here single channels are followed instead of layers, so that
concatenation, splitting and flattening need no index arithmetic of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasten.compress.pruning.channels import Ids, Role
from hasten.compress.pruning.trace import Trace, trace_channels

if TYPE_CHECKING:
    import onnx

__all__ = ["ChannelGroup", "ChannelMap", "Member", "channel_groups", "channel_map", "per_channel"]

_PRODUCER: Role = "producer"


@dataclass(frozen=True, eq=False)
class Member:
    """An axis of a constant that a group goes through.

    ``indices``, int64 [size, width], are the places on the axis that each channel of the group has:
    more than one where channels were flattened, or belong to a convolution with groups.
    """

    constant: str
    axis: int
    role: Role
    indices: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """``size`` channels of which each can go, with its places in all members.

    The name is that of the first weight that makes the channels, with the first place on its axis
    where the weight makes more than one group.
    """

    name: str
    size: int
    members: tuple[Member, ...]

    @property
    def producers(self) -> tuple[Member, ...]:
        """The weights that make these channels."""
        return tuple(member for member in self.members if member.role == _PRODUCER)


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """A graph's groups, and for each group the numbers of its channels in the trace."""

    trace: Trace
    groups: tuple[ChannelGroup, ...]
    #: For each channel number of the trace, its group's place and its place there; -1 for none.
    places: npt.NDArray[np.int64]

    @cached_property
    def by_name(self) -> Mapping[str, ChannelGroup]:
        """The groups by their names."""
        return {group.name: group for group in self.groups}

    def gone(self, keep: Mapping[str, Sequence[int] | Ids]) -> npt.NDArray[np.bool_]:
        """Return for each channel number whether it goes, where groups keep only these channels."""
        gone = np.zeros(len(self.places), bool)
        for at, group in enumerate(self.groups):
            if group.name in keep:
                left = np.zeros(group.size, bool)
                left[np.asarray(keep[group.name], np.int64)] = True
                inside = self.places[:, 0] == at
                gone[inside] = ~left[self.places[inside, 1]]
        return gone


def per_channel(values: npt.NDArray[Any], member: Member) -> npt.NDArray[np.float64]:
    """Sum a constant's values over all that one channel has of it; float64 [size]."""
    rows = np.moveaxis(values, member.axis, 0)[member.indices]
    return np.asarray(rows.reshape(len(rows), -1).sum(axis=1, dtype=np.float64))


def channel_groups(graph: onnx.ModelProto) -> tuple[ChannelGroup, ...]:
    """Return the groups of channels that can be pruned, in the order of their first weights.

    Channels that reach an input or output of the graph, or an operator that is not known, are in
    none. Raises RefusedError where the graph holds control flow, or ONNX cannot infer its shapes.
    """
    return channel_map(graph).groups


def channel_map(graph: onnx.ModelProto) -> ChannelMap:
    """Return the groups with what it takes to remove channels of them."""
    trace = trace_channels(graph)
    labels, frozen = trace.channels.classes()
    classes: dict[int, list[int]] = {}
    for number in np.flatnonzero(~frozen):
        classes.setdefault(int(labels[number]), []).append(int(number))
    alike: dict[tuple[tuple[str, int, int], ...], list[list[int]]] = {}
    for numbers in classes.values():
        axes = Counter(trace.channels.where(number)[:2] for number in numbers)
        if any(trace.channels.role(number) == _PRODUCER for number in numbers):
            key = tuple((constant, axis, width) for (constant, axis), width in axes.items())
            alike.setdefault(key, []).append(numbers)
    found = [channels for channels in alike.values() if len(channels) > 1]
    groups = _named([_group(trace, channels) for channels in found])
    places = np.full((trace.channels.count, 2), -1, np.int64)
    for at, channels in enumerate(found):
        for place, numbers in enumerate(channels):
            places[numbers] = at, place
    return ChannelMap(trace, groups, places)


def _group(trace: Trace, channels: list[list[int]]) -> ChannelGroup:
    indices: dict[tuple[str, int], list[list[int]]] = {}
    roles: dict[tuple[str, int], Role] = {}
    for numbers in channels:
        own: dict[tuple[str, int], list[int]] = {}
        for number in numbers:
            constant, axis, index = trace.channels.where(number)
            own.setdefault((constant, axis), []).append(index)
            roles[constant, axis] = trace.channels.role(number)
        for key, places in own.items():
            indices.setdefault(key, []).append(places)
    members = tuple(
        Member(constant, axis, roles[constant, axis], np.asarray(rows, np.int64))
        for (constant, axis), rows in indices.items()
    )
    first = next(member.constant for member in members if member.role == _PRODUCER)
    return ChannelGroup(first, len(channels), members)


def _named(groups: list[ChannelGroup]) -> tuple[ChannelGroup, ...]:
    """Tell groups apart that one weight makes, by their first place on its axis."""
    count = Counter(group.name for group in groups)
    return tuple(
        group
        if count[group.name] == 1
        else ChannelGroup(
            f"{group.name}[{int(group.producers[0].indices.min())}]", group.size, group.members
        )
        for group in groups
    )
