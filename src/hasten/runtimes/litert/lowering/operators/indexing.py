"""Elements picked by index. Negative indices count from the end, which TFLite does not know."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import casted, pair
from hasten.runtimes.litert.lowering.operators.selection import select
from hasten.runtimes.litert.lowering.operators.shape import movable
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS", "flat_indices", "from_start", "picked", "turned_positive"]


def _gather(node: Node, to: Builder) -> None:
    """Slices along one axis, in the order of axes that the data is stored in."""
    data = movable(to, to.value(node.input(0)))
    axis = node.attribute("axis", 0) % data.rank
    indices = to.value(node.input(1))
    to.bind_value(node.outputs[0], picked(to, data, axis, indices))


def picked(to: Builder, data: Value, axis: int, indices: Value) -> Value:
    """GATHER: the axis is replaced by the axes of ``indices``."""
    rows = from_start(to, indices, [data.shape[axis]])
    at, more = layout.stored_axis(data.perm, axis), indices.rank
    shape = (*data.tensor.shape[:at], *rows.shape, *data.tensor.shape[at + 1 :])
    made = to.emit("GATHER", [data.tensor, rows], shape, like=data.tensor, axis=at)
    own = [one if one < axis else one + more - 1 for one in data.perm]
    perm = (*own[:at], *range(axis, axis + more), *own[at + 1 :])
    return Value(made, perm, data.dtype)


def from_start(to: Builder, indices: Value, sizes: list[int]) -> Tensor:
    """Indices in ONNX's order, none negative; ``sizes`` are one, or one for each last index.

    Raises Unsupported where a constant one is out of range.
    """
    known = to.data_of(indices)
    if known is not None:
        return to.constant(_known_indices(known, np.array(sizes)))
    return to.stored(turned_positive(to, indices, sizes))


def turned_positive(to: Builder, indices: Value, sizes: list[int]) -> Value:
    """Negative indices counted from the start; those out of range stay so."""
    dtype = indices.dtype
    zero = Value(to.constant(np.zeros((), dtype)), (), dtype)
    last = np.array(sizes, dtype).reshape((-1,) if len(sizes) > 1 else ())
    limit = Value(to.constant(last), layout.identity(last.ndim), dtype)
    shape = indices.shape
    below = pair(to, "LESS", indices, zero, shape=shape, dtype=np.dtype(np.bool_))
    moved = pair(to, "ADD", indices, limit, shape=shape)
    return select(to, below, moved, indices, shape)


def _known_indices(indices: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Constant indices, none negative, in the shape they had; Unsupported where one is too far."""
    if np.any(indices < -sizes) or np.any(indices >= sizes):
        raise Unsupported(f"an index is out of range of {sizes.tolist()}")
    # ``sizes`` has an axis, which a single index, the one of x[:, 0], has not.
    return np.where(indices < 0, indices + sizes, indices).astype(np.int32).reshape(indices.shape)


def _gather_nd(node: Node, to: Builder) -> None:
    """The last axis of indices counts along the first axes of the data."""
    data = movable(to, to.value(node.input(0)))
    indices = to.value(node.input(1))
    batches, depth = node.attribute("batch_dims", 0), indices.shape[-1]
    sizes = list(data.shape[batches : batches + depth])
    rows = from_start(to, indices, sizes)
    if batches:
        rows = _with_batches(to, rows, _coordinates(indices.shape[:-1], range(batches)))
    made = to.emit("GATHER_ND", [to.stored(data), rows], node.shape, like=data.tensor)
    to.bind(node.outputs[0], made, dtype=data.dtype)


def _gather_elements(node: Node, to: Builder) -> None:
    """Each index counts along one axis; where it stands says the rest."""
    data = movable(to, to.value(node.input(0)))
    axis = node.attribute("axis", 0) % data.rank
    rows = flat_indices(to, data.shape, to.value(node.input(1)), axis)
    flat = to.reshaped(to.stored(data), (data.tensor.size,))
    made = to.emit("GATHER", [flat, rows], node.shape, like=data.tensor, axis=0)
    to.bind(node.outputs[0], made, dtype=data.dtype)


def flat_indices(to: Builder, shape: tuple[int, ...], indices: Value, axis: int) -> Tensor:
    """Indices along one axis as such into all elements of a tensor of this shape, in int32."""
    own = from_start(to, indices, [shape[axis]])
    strides = np.cumprod((1, *shape[:0:-1]))[::-1]
    grid = np.indices(indices.shape)
    rest = sum(grid[at] * stride for at, stride in enumerate(strides) if at != axis)
    offsets = np.broadcast_to(rest, indices.shape).astype(np.int32)
    if own.data is not None:
        return to.constant(own.data * np.int32(strides[axis]) + offsets)
    order = layout.identity(indices.rank)
    wide = casted(to, Value(own, order, own.dtype), np.int32)
    step = Value(to.constant(np.array(strides[axis], np.int32)), (), wide.dtype)
    scaled = pair(to, "MUL", wide, step, shape=indices.shape)
    beside = Value(to.constant(offsets), order, wide.dtype)
    return pair(to, "ADD", scaled, beside, shape=indices.shape).tensor


def _coordinates(shape: tuple[int, ...], axes: range) -> np.ndarray:
    """Where each element stands along these axes: ``[*shape, len(axes)]``.

    >>> _coordinates((2, 2), range(1)).tolist()
    [[[0], [0]], [[1], [1]]]
    """
    grid = np.indices(shape)[list(axes)]
    return np.moveaxis(grid, 0, -1).astype(np.int32)


def _with_batches(to: Builder, rows: Tensor, known: np.ndarray) -> Tensor:
    more = known.astype(rows.dtype)
    if rows.data is not None:
        return to.constant(np.concatenate([more, rows.data], axis=-1))
    shape = (*rows.shape[:-1], rows.shape[-1] + more.shape[-1])
    pieces = [to.constant(more), rows]
    return to.emit("CONCATENATION", pieces, shape, rows.dtype, axis=len(shape) - 1)


OPERATORS: dict[str, Lowering] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
}
