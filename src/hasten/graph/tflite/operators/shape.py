"""Shapes and orders of axes: elements are moved or renamed, never computed."""

from __future__ import annotations

import numpy as np
from onnx import helper

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.operators.activation import activated
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS", "sizes"]


def sizes(to: Builder, index: int, what: str) -> str:
    """A list of sizes as int64, which is what ONNX takes."""
    if to.is_constant(index):
        return to.longs(*to.ints(index, what))
    name = to.read(index)
    return name if to.dtype(index) == np.int64 else to.emit("Cast", [name], to=7)


def _reshape(op: Operator, to: Builder) -> None:
    """The shape is the second input, else an option."""
    if op.input(1) >= 0 and to.dtype(op.input(1)).kind in "iu":
        shape = sizes(to, op.input(1), "shape")
        empty = to.is_constant(op.input(1)) and 0 in to.ints(op.input(1), "shape")
    else:
        if op.option("NewShapeLength") > 64:
            raise Unsupported(f"asks for {op.option('NewShapeLength')} dimensions")
        wanted = np.asarray(op.option("NewShapeAsNumpy")).reshape(-1).tolist()
        shape, empty = to.longs(*wanted), 0 in wanted
    # Zero is a size here, while ONNX takes it for the size that the input has there.
    to.bind(op.outputs[0], to.emit("Reshape", [to.read(op.input(0)), shape], allowzero=int(empty)))


def _squeeze(op: Operator, to: Builder) -> None:
    """The axes are an option; all of size 1 where there are none."""
    data = op.input(0)
    rank = to.rank(data)
    count = op.option("SqueezeDimsLength", 0)
    if count > rank:
        raise Unsupported(f"squeezes {count} of {rank} axes")
    given = np.asarray(op.option("SqueezeDimsAsNumpy")).tolist() if count else []
    axes = [to.axis(axis, rank) for axis in given]
    if not axes:
        axes = [at for at, size in enumerate(to.shape(data)) if size == 1]
    made = to.read(data)
    if axes:
        made = to.emit("Squeeze", [made, to.longs(*axes)])
    to.bind(op.outputs[0], made)


def _expand_dims(op: Operator, to: Builder) -> None:
    """One axis more, of size 1."""
    (axis, *_) = to.ints(op.input(1), "axis") or [0]
    rank = to.rank(op.input(0)) + 1
    made = to.emit("Unsqueeze", [to.read(op.input(0)), to.longs(to.axis(axis, rank))])
    to.bind(op.outputs[0], made)


def _transpose(op: Operator, to: Builder) -> None:
    """Axes get other names; elements move when somebody needs them in order."""
    data, out = op.input(0), op.outputs[0]
    perm = to.perm(data)
    order = [to.axis(axis, len(perm)) for axis in to.ints(op.input(1), "order")]
    if sorted(order) != list(range(len(perm))):
        raise Unsupported(f"has the order {order}")
    to.bind(out, to.read(data, perm), tuple(order.index(axis) for axis in perm))


def _concatenation(op: Operator, to: Builder) -> None:
    """Along one axis, in the order that the first computed operand has."""
    out = op.outputs[0]
    computed = [index for index in op.inputs if not to.is_constant(index)]
    perm = to.perm(computed[0]) if computed else layout.identity(to.rank(out))
    if any(to.rank(index) != len(perm) for index in op.inputs):
        raise Unsupported("joins tensors of several ranks")
    axis = perm.index(to.axis(op.option("Axis"), len(perm)))
    made = to.emit("Concat", [to.read(index, perm) for index in op.inputs], axis=axis)
    to.bind(out, activated(op, to, made), perm)


def _pack(op: Operator, to: Builder) -> None:
    """Joined along an axis that none of them has."""
    out = op.outputs[0]
    axis = to.axis(op.option("Axis"), to.rank(out))
    parts = [to.emit("Unsqueeze", [to.read(at), to.longs(axis)]) for at in op.inputs]
    to.bind(out, to.emit("Concat", parts, axis=axis))


def _unpack(op: Operator, to: Builder) -> None:
    """Each index of an axis as a tensor of its own."""
    data = op.input(0)
    axis = to.axis(op.option("Axis"), to.rank(data))
    parts = _split(to, to.read(data), axis, [1] * len(op.outputs))
    for out, part in zip(op.outputs, parts, strict=True):
        to.bind(out, to.emit("Squeeze", [part, to.longs(axis)]))


def _import_split(op: Operator, to: Builder) -> None:
    """In parts of one size; the axis comes first."""
    data = op.input(1)
    perm = to.perm(data)
    (axis, *_) = to.ints(op.input(0), "axis") or [0]
    axis = to.axis(axis, len(perm))
    each, left = divmod(to.shape(data)[axis], len(op.outputs))
    if left:
        raise Unsupported(f"splits {to.shape(data)[axis]} in {len(op.outputs)}")
    _bind_parts(op, to, data, axis, [each] * len(op.outputs))


def _split_v(op: Operator, to: Builder) -> None:
    """In parts of given sizes; one of them may be what is left."""
    data = op.input(0)
    (axis, *_) = to.ints(op.input(2), "axis") or [0]
    axis = to.axis(axis, to.rank(data))
    parts = to.ints(op.input(1), "sizes")
    rest = to.shape(data)[axis] - sum(size for size in parts if size >= 0)
    _bind_parts(op, to, data, axis, [rest if size < 0 else size for size in parts])


def _bind_parts(op: Operator, to: Builder, data: int, axis: int, parts: list[int]) -> None:
    if len(parts) != len(op.outputs) or min(parts) < 0:
        raise Unsupported(f"splits into {parts} for {len(op.outputs)} outputs")
    perm = to.perm(data)
    names = _split(to, to.read(data, perm), perm.index(axis), parts)
    for out, name in zip(op.outputs, names, strict=True):
        to.bind(out, name, perm)


def _split(to: Builder, name: str, axis: int, parts: list[int]) -> list[str]:
    if len(parts) == 1:
        return [name]
    return to.emit("Split", [name, to.longs(*parts)], len(parts), axis=axis)


def _tile(op: Operator, to: Builder) -> None:
    """Repeated along each axis."""
    made = to.emit("Tile", [to.read(op.input(0)), sizes(to, op.input(1), "repeats")])
    to.bind(op.outputs[0], made)


def _broadcast_to(op: Operator, to: Builder) -> None:
    """Stretched to a shape."""
    made = to.emit("Expand", [to.read(op.input(0)), sizes(to, op.input(1), "shape")])
    to.bind(op.outputs[0], made)


def _fill(op: Operator, to: Builder) -> None:
    """One value in a shape."""
    made = to.emit("Expand", [to.read(op.input(1)), sizes(to, op.input(0), "shape")])
    to.bind(op.outputs[0], made)


def _zeros_like(op: Operator, to: Builder) -> None:
    """Zeros in the shape of another tensor."""
    shape = to.emit("Shape", [to.read(op.input(0))])
    to.bind(op.outputs[0], to.emit("Expand", [to.number(0, to.dtype(op.outputs[0])), shape]))


def _shape(op: Operator, to: Builder) -> None:
    """The sizes of all axes."""
    found = to.emit("Shape", [to.read(op.input(0))])
    kind = helper.np_dtype_to_tensor_dtype(to.dtype(op.outputs[0]))
    to.bind(op.outputs[0], found if kind == 7 else to.emit("Cast", [found], to=kind))


def _rank(op: Operator, to: Builder) -> None:
    """The number of axes, which is known now."""
    found = np.asarray(to.rank(op.input(0)), to.dtype(op.outputs[0]))
    to.bind(op.outputs[0], to.emit("Identity", [to.constant(found)]))


OPERATORS: dict[str, Importing] = {
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _concatenation,
    "EXPAND_DIMS": _expand_dims,
    "FILL": _fill,
    "PACK": _pack,
    "RANK": _rank,
    "RESHAPE": _reshape,
    "SHAPE": _shape,
    "SPLIT": _import_split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _squeeze,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
    "ZEROS_LIKE": _zeros_like,
}
