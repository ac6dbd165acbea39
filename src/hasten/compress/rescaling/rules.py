"""What each operator does to the factors of channels: hands on, ties together, or forbids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.rescaling.flow import Addend, ChannelFlow, Linear, Norm
from hasten.graph import attribute_of

if TYPE_CHECKING:
    import onnx

__all__ = ["follow_channels"]

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
    extrapolates = (
        attribute_of(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
    )
    (_kept if extrapolates else _within_channels)(flow, node)


def _pad(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Zeros may be scaled, other constants not."""
    given = [flow.constants.get(name) for name in node.input[2:3] if name]
    zero = all(value is not None and not np.any(value) for value in given)
    reflects = attribute_of(node, "mode", b"constant") != b"constant"
    (_homogeneous if zero or reflects else _kept)(flow, node)


def _reduce(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    """Mean, sum or maximum over axes: factors along the others pass."""
    axes = _axes(flow, node)
    if axes is None:
        _kept(flow, node)
        return
    left = [axis for axis in range(flow.rank(node.input[0])) if axis not in axes]
    kept = bool(attribute_of(node, "keepdims", 1))
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
    given = attribute_of(node, "axes", None)
    if given is None and len(node.input) > 1 and node.input[1] in flow.constants:
        given = flow.constants[node.input[1]].reshape(-1).tolist()
    rank = flow.rank(node.input[0])
    return {int(axis) % rank for axis in given} if given and rank else None


def _transpose(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    order = attribute_of(node, "perm", list(reversed(range(flow.rank(node.input[0])))))
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
    _divided(flow, node.output[0], parts, attribute_of(node, "axis", 0))


def _split(flow: ChannelFlow, node: onnx.NodeProto) -> None:
    _divided(flow, node.input[0], list(node.output), attribute_of(node, "axis", 0))


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
    flow.linears.append(Linear(node, inside, outside, int(attribute_of(node, "group", 1))))


def _linear_axes(flow: ChannelFlow, node: onnx.NodeProto) -> tuple[int, int] | None:
    """Channel axes of what it reads and what it gives; None where it is not of this simple kind."""
    if node.op_type == "Conv":
        return 1, 1
    if node.op_type == "ConvTranspose":
        return (1, 1) if attribute_of(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return (1, 1) if not attribute_of(node, "transA", 0) else None
    weight = flow.constants.get(node.input[1])
    if weight is None or weight.ndim != 2:  # noqa: PLR2004 - a matrix
        return None
    return flow.rank(node.input[0]) - 1, flow.rank(node.output[0]) - 1


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
    whole = not last or attribute_of(node, "axis", -1) in (-1, rank - 1)
    constants = [name for name in node.input[1:] if name]
    channels = flow.channels(out, axis)
    if not whole or channels is None or not all(flow.constant(name) for name in constants):
        _kept(flow, node)
        return
    flow.keep(out, but=axis)
    flow.norms.append(Norm(node, channels))


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


def follow_channels(graph: onnx.ModelProto) -> ChannelFlow:
    """The classes of channels of a graph, and the constants that take their factors."""
    flow = ChannelFlow(graph)
    for node in graph.graph.node:
        _RULES.get(node.op_type, _kept)(flow, node)
    return flow
