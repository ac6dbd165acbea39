"""Which channels of a graph can be rescaled without changing what it computes, and with whom.

Divide a channel by ``s``, and whatever is linear before it takes ``1 / s`` into its weights and
whatever is linear behind it takes ``s``. Between the two, operators hand the factor on, tie
channels together, or forbid it: which of the three is in ``hasten.compress.rescaling.rules``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasten.graph import attribute_of, initializer_arrays

if TYPE_CHECKING:
    import onnx

__all__ = ["Addend", "ChannelFlow", "Linear", "Norm"]

_Ids = npt.NDArray[np.intp]
#: The class of all channels that stay as they are.
_KEPT = 0


@dataclass(frozen=True)
class Linear:
    """A convolution or product with constant weights: its channels in and out, by class."""

    node: onnx.NodeProto
    source: _Ids
    target: _Ids
    groups: int = 1

    def rows(self, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The weights as [out, in / groups, kernel]: a view wherever NumPy can give one."""
        return _rows(self.node, weight)

    @property
    def columns(self) -> _Ids:
        """For each entry of [out, in / groups], the input channel it multiplies."""
        per_group = self.source.size // self.groups
        each = np.arange(self.source.size).reshape(self.groups, per_group)
        return each.repeat(self.target.size // self.groups, axis=0)


@dataclass(frozen=True)
class Norm:
    """A normalisation whose output is scaled and shifted by constants, channel by channel."""

    node: onnx.NodeProto
    target: _Ids


@dataclass(frozen=True)
class Addend:
    """A constant (input ``at`` of the node) that is added along an axis of a result."""

    node: onnx.NodeProto
    at: int
    target: _Ids
    axis_from_end: int


class ChannelFlow:
    """The classes of channels that share a factor, and the constants that take it.

    A channel is one index of axis 1 or of the last axis of an activation. Class 0 keeps its scale:
    graph inputs and outputs are in it, and all that touches an operator without a rule.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        from onnx import shape_inference

        inferred = shape_inference.infer_shapes(graph).graph
        self._shapes = {
            value.name: tuple(
                dim.dim_value if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            )
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
            if value.type.tensor_type.HasField("shape")
        }
        self.constants = initializer_arrays(graph.graph)
        self.uses = Counter(name for node in graph.graph.node for name in node.input if name)
        self._parents = [_KEPT]
        self._ids: dict[tuple[str, int], _Ids] = {}
        self.linears: list[Linear] = []
        self.norms: list[Norm] = []
        self.addends: list[Addend] = []
        for value in (*graph.graph.input, *graph.graph.output):
            self.keep(value.name)

    @property
    def size(self) -> int:
        """Number of classes, unused ones included; class indices are below it."""
        return len(self._parents)

    def classes(self, ids: _Ids) -> _Ids:
        """The class of each of these channels, now that all of the graph was seen."""
        return np.array([self._find(int(one)) for one in ids], np.intp)

    # What the rules are written with

    def constant(self, name: str) -> bool:
        """Whether this is an initializer."""
        return name in self.constants

    def rank(self, name: str) -> int:
        """Rank of an activation; 0 where it is not known."""
        return len(self._shapes.get(name, ()))

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Shape of an activation, None for what is free; empty where it is not known."""
        return self._shapes.get(name, ())

    def planes(self, name: str) -> tuple[int, ...]:
        """The axes of an activation that count as channels: 1 and the last."""
        rank = self.rank(name)
        return tuple(dict.fromkeys((1, rank - 1))) if rank > 1 else ()

    def channels(self, name: str, axis: int) -> _Ids | None:
        """The channels along an axis; None where their number is not known."""
        if axis not in self.planes(name):
            return None
        size = self._shapes[name][axis]
        if size is None:
            return None
        if (name, axis) not in self._ids:
            start = len(self._parents)
            self._parents.extend(range(start, start + size))
            self._ids[name, axis] = np.arange(start, start + size)
        return self._ids[name, axis]

    def keep(self, name: str, *, but: int | None = None) -> None:
        """Let nothing of an activation be scaled, one axis excepted."""
        for axis in self.planes(name):
            if axis != but:
                self.hold(self.channels(name, axis))

    def hold(self, ids: _Ids | None) -> None:
        """Let none of these channels be scaled."""
        if ids is not None:
            self.join(ids, np.zeros_like(ids))

    def join(self, one: _Ids | None, other: _Ids | None) -> None:
        """Let these channels share their factors, one by one; where they do not match, none has."""
        if one is None or other is None or one.size != other.size:
            self.hold(one)
            self.hold(other)
            return
        for left, right in zip(one.tolist(), other.tolist(), strict=True):
            roots = self._find(left), self._find(right)
            self._parents[max(roots)] = min(roots)

    def carry(self, source: str, target: str, axes: Mapping[int, int]) -> None:
        """Hand factors from one activation to another: from axis to axis, and along no other."""
        reached = {axis: axes[axis] for axis in self.planes(source) if axis in axes}
        for axis in self.planes(source):
            self.join(self.channels(source, axis), self.channels(target, reached.get(axis, -1)))
        for axis in self.planes(target):
            if axis not in reached.values():
                self.hold(self.channels(target, axis))

    def _find(self, at: int) -> int:
        parents = self._parents
        while parents[at] != at:
            parents[at] = parents[parents[at]]
            at = parents[at]
        return at


def _rows(node: onnx.NodeProto, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if node.op_type == "ConvTranspose":
        weight = weight.swapaxes(0, 1)
    elif node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not attribute_of(node, "transB", 0)
    ):
        weight = weight.T
    return weight.reshape(*weight.shape[:2], -1)
