"""Which channels of a graph can be rescaled without changing what it computes, and with whom.

Divide a channel by ``s``, and whatever is linear before it takes ``1 / s`` into its weights and
whatever is linear behind it takes ``s``. Between the two, operators hand the factor on, tie
channels together, or forbid it. This file knows which of the three each operator does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

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
    graph inputs and outputs are in it, and all that touches an operator without a rule below.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        from onnx import numpy_helper, shape_inference

        inferred = shape_inference.infer_shapes(graph).graph
        self._shapes = {
            value.name: tuple(
                dim.dim_value if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            )
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
            if value.type.tensor_type.HasField("shape")
        }
        self.constants = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer
        }
        self.uses = Counter(name for node in graph.graph.node for name in node.input if name)
        self._parents = [_KEPT]
        self._ids: dict[tuple[str, int], _Ids] = {}
        self.linears: list[Linear] = []
        self.norms: list[Norm] = []
        self.addends: list[Addend] = []
        for value in (*graph.graph.input, *graph.graph.output):
            self.keep(value.name)
        for node in graph.graph.node:
            _RULES.get(node.op_type, _kept)(self, node)

    @property
    def size(self) -> int:
        """Number of classes, unused ones included; class indices are below it."""
        return len(self._parents)

    def classes(self, ids: _Ids) -> _Ids:
        """The class of each of these channels, now that all of the graph was seen."""
        return np.array([self._find(int(one)) for one in ids], np.intp)

    # What the rules below are written with

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


_Rule = Callable[[ChannelFlow, "onnx.NodeProto"], None]


def _kept(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """What is not known to be homogeneous: its values are left alone."""
    for name in (*node.input, *node.output):
        flow.keep(name)


def _homogeneous(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """f(s x) = s f(x) for s > 0, element by element."""
    for name in node.input[1:]:
        flow.keep(name)
    flow.carry(node.input[0], node.output[0], {axis: axis for axis in flow.planes(node.input[0])})


def _within_channels(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Pools and resizing: homogeneous, and channels (axis 1) do not mix."""
    flow.carry(node.input[0], node.output[0], {1: 1})


def _resize(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    extrapolates = _attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
    (_kept if extrapolates else _within_channels)(flow, node)


def _pad(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Zeros may be scaled, other constants not."""
    given = [flow.constants.get(name) for name in node.input[2:3] if name]
    zero = all(value is not None and not np.any(value) for value in given)
    reflects = _attribute(node, "mode", b"constant") != b"constant"
    (_homogeneous if zero or reflects else _kept)(flow, node)


def _reduce(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Mean, sum or maximum over axes: factors along the others pass."""
    axes = _axes(flow, node)
    if axes is None:
        _kept(flow, node)
        return
    left = [axis for axis in range(flow.rank(node.input[0])) if axis not in axes]
    kept = bool(_attribute(node, "keepdims", 1))
    moved = {axis: axis if kept else at for at, axis in enumerate(left)}
    flow.carry(node.input[0], node.output[0], moved)


def _squeeze(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    axes = _axes(flow, node)
    if axes is None:
        _kept(flow, node)
        return
    left = [axis for axis in range(flow.rank(node.input[0])) if axis not in axes]
    flow.carry(node.input[0], node.output[0], {axis: at for at, axis in enumerate(left)})


def _axes(flow: ChannelFlow, node: onnx.NodeProto) -> set[int] | None:
    """Axes of a reduction, which are an attribute or an input; None where they are not known."""
    given = _attribute(node, "axes", None)
    if given is None and len(node.input) > 1 and node.input[1] in flow.constants:
        given = flow.constants[node.input[1]].reshape(-1).tolist()
    rank = flow.rank(node.input[0])
    return {int(axis) % rank for axis in given} if given and rank else None


def _transpose(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    order = _attribute(node, "perm", list(reversed(range(flow.rank(node.input[0])))))
    flow.carry(node.input[0], node.output[0], {axis: at for at, axis in enumerate(order)})


def _flatten(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """[n, c, ...] to [n, c * ...]: each channel becomes that many columns. Else nothing passes."""
    source, target = node.input[0], node.output[0]
    channels, columns = flow.channels(source, 1), flow.channels(target, 1)
    if channels is None or columns is None or flow.rank(target) != 2:  # noqa: PLR2004 - a matrix
        _kept(flow, node)
        return
    rest = flow.shape(source)[2:]
    if None in rest or columns.size != channels.size * int(np.prod(rest, dtype=np.int64)):  # type: ignore[arg-type]
        _kept(flow, node)
        return
    flow.keep(source, but=1)
    flow.join(channels.repeat(columns.size // channels.size), columns)


def _concat(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    parts = list(node.input)
    if any(flow.constant(name) for name in parts):
        _kept(flow, node)
        return
    _divided(flow, node.output[0], parts, _attribute(node, "axis", 0))


def _split(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    _divided(flow, node.input[0], list(node.output), _attribute(node, "axis", 0))


def _divided(flow: ChannelFlow, whole: str, parts: Sequence[str], axis: int) -> None:
    """Parts along an axis hold their own channels of the whole; other axes are shared."""
    rank = flow.rank(whole)
    axis = axis % rank if rank else 0
    for plane in flow.planes(whole):
        channels, at = flow.channels(whole, plane), 0
        found = [flow.channels(part, plane) for part in parts]
        sizes = [one.size if one is not None else -1 for one in found]
        fits = channels is not None and (plane != axis or sum(sizes) == channels.size)
        for part, size in zip(found, sizes, strict=True):
            if channels is None or not fits:
                flow.hold(part)
                flow.hold(channels)
                continue
            flow.join(part, channels[at : at + size] if plane == axis else channels)
            at += size
    if not rank:
        for name in parts:
            flow.keep(name)


def _add(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Sums tie both operands; a constant is divided like the rest."""
    constants = [at for at, name in enumerate(node.input) if flow.constant(name)]
    out = node.output[0]
    if not constants:
        for name in node.input:
            flow.carry(name, out, {axis: axis for axis in flow.planes(out)})
        return
    others = [at for at in range(len(node.input)) if at not in constants]
    if len(constants) != 1 or not others or flow.shape(node.input[others[0]]) != flow.shape(out):
        _kept(flow, node)
        return
    flow.carry(node.input[others[0]], out, {axis: axis for axis in flow.planes(out)})
    for axis in flow.planes(out):
        channels = flow.channels(out, axis)
        if channels is not None:
            flow.addends.append(Addend(node, constants[0], channels, flow.rank(out) - axis))


def _scaled(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Products and quotients: one factor keeps its scale, the other hands its own on."""
    out = node.output[0]
    sizes = [0 if flow.constant(name) else _extent(flow.shape(name)) for name in node.input]
    carried = 0 if node.op_type == "Div" or sizes[0] >= sizes[1] else 1
    flow.keep(node.input[1 - carried])
    if flow.constant(node.input[carried]) or flow.rank(node.input[carried]) != flow.rank(out):
        _kept(flow, node)
        return
    flow.carry(node.input[carried], out, {axis: axis for axis in flow.planes(out)})


def _extent(shape: Iterable[int | None]) -> int:
    """Size of a shape but for its batch: which of two is the larger."""
    return int(np.prod([dim or 1 for dim in shape][1:], dtype=np.int64))


def _linear(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Convolutions and products with weights of their own: here factors begin and end."""
    source, target = node.input[0], node.output[0]
    axes = _linear_axes(flow, node)
    weight = flow.constants.get(node.input[1])
    bias = node.input[2] if len(node.input) > 2 else ""  # noqa: PLR2004 - the third input
    if (
        axes is None
        or weight is None
        or weight.dtype != np.float32
        or flow.uses[node.input[1]] > 1
        or (bias and not flow.constant(bias))
    ):
        _kept(flow, node)
        return
    inside, outside = flow.channels(source, axes[0]), flow.channels(target, axes[1])
    flow.keep(source, but=axes[0])
    flow.keep(target, but=axes[1])
    if inside is None or outside is None:
        flow.hold(inside)
        flow.hold(outside)
        return
    flow.linears.append(Linear(node, inside, outside, int(_attribute(node, "group", 1))))


def _linear_axes(flow: ChannelFlow, node: onnx.NodeProto) -> tuple[int, int] | None:
    """Channel axes of what it reads and what it gives; None where it is not of this simple kind."""
    if node.op_type == "Conv":
        return 1, 1
    if node.op_type == "ConvTranspose":
        return (1, 1) if _attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return (1, 1) if not _attribute(node, "transA", 0) else None
    weight = flow.constants.get(node.input[1])
    if weight is None or weight.ndim != 2:  # noqa: PLR2004 - a matrix
        return None
    return flow.rank(node.input[0]) - 1, flow.rank(node.output[0]) - 1


def _rows(node: onnx.NodeProto, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if node.op_type == "ConvTranspose":
        weight = weight.swapaxes(0, 1)
    elif node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB", 0)):
        weight = weight.T
    return weight.reshape(*weight.shape[:2], -1)


def _matmul(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """With constant weights it is linear; columns of an activation pass to those of the result."""
    left, right = node.input
    if flow.constant(right) or flow.constant(left):
        (_linear if flow.constant(right) else _kept)(flow, node)
        return
    flow.keep(left)
    last = flow.rank(right) - 1
    flow.carry(right, node.output[0], {last: flow.rank(node.output[0]) - 1})


def _normalised(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Whatever comes in, its scale and shift decide what goes out."""
    flow.keep(node.input[0])
    out = node.output[0]
    rank = flow.rank(out)
    last = node.op_type == "LayerNormalization"
    axis = rank - 1 if last else 1
    whole = not last or _attribute(node, "axis", -1) in (-1, rank - 1)
    constants = [name for name in node.input[1:] if name]
    channels = flow.channels(out, axis)
    if not whole or channels is None or not all(flow.constant(name) for name in constants):
        _kept(flow, node)
        return
    flow.keep(out, but=axis)
    flow.norms.append(Norm(node, channels))


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


_RULES: dict[str, _Rule] = {
    "Abs": _homogeneous,
    "Add": _add,
    "AveragePool": _within_channels,
    "Concat": _concat,
    "Conv": _linear,
    "ConvTranspose": _linear,
    "Div": _scaled,
    "Dropout": _homogeneous,
    "Flatten": _flatten,
    "Gemm": _linear,
    "GlobalAveragePool": _within_channels,
    "GlobalMaxPool": _within_channels,
    "Identity": _homogeneous,
    "InstanceNormalization": _normalised,
    "LayerNormalization": _normalised,
    "LeakyRelu": _homogeneous,
    "MatMul": _matmul,
    "MaxPool": _within_channels,
    "Mul": _scaled,
    "Neg": _homogeneous,
    "PRelu": _homogeneous,
    "Pad": _pad,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Relu": _homogeneous,
    "Reshape": _flatten,
    "Resize": _resize,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _add,
    "Transpose": _transpose,
}
