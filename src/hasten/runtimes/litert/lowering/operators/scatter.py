"""Elements replaced by index. TFLite's SCATTER_ND starts from zeros and adds what meets."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import NARROW, casted, pair, plain
from hasten.runtimes.litert.lowering.operators.indexing import flat_indices, from_start
from hasten.runtimes.litert.lowering.operators.selection import select
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def _scatter_nd(node: Node, to: Builder) -> None:
    """The last axis of indices counts along the first axes of the data."""
    data, updates = plain(to, to.value(node.input(0))), plain(to, to.value(node.input(2)))
    indices = to.value(node.input(1))
    rows = from_start(to, indices, list(data.shape[: indices.shape[-1]]))
    if rows.dtype != np.int32:  # SCATTER_ND takes no other indices
        rows = to.emit("CAST", [rows], rows.shape, np.int32)
    to.bind_value(node.outputs[0], _scattered(node, to, data, updates, rows))


def _scatter_elements(node: Node, to: Builder) -> None:
    """Each index counts along one axis; where it stands says the rest."""
    data, updates = plain(to, to.value(node.input(0))), plain(to, to.value(node.input(2)))
    axis = node.attribute("axis", 0) % data.rank
    rows = flat_indices(to, data.shape, to.value(node.input(1)), axis)
    made = _scattered(
        node, to, _flat(to, data), _flat(to, updates), to.reshaped(rows, (updates.tensor.size, 1))
    )
    to.bind(node.outputs[0], to.reshaped(to.stored(made), node.shape))


def _flat(to: Builder, value: Value) -> Value:
    tensor = to.reshaped(to.stored(value), (value.tensor.size,))
    return Value(tensor, layout.identity(1), value.dtype)


def _scattered(node: Node, to: Builder, data: Value, updates: Value, rows: Tensor) -> Value:
    how = node.attribute("reduction", "none")
    if how == "none":
        return _replaced(to, data, updates, rows)
    if how == "add":
        return _added(to, data, updates, rows)
    raise Unsupported(f"combines what it scatters by {how}")


def _replaced(to: Builder, data: Value, updates: Value, rows: Tensor) -> Value:
    if rows.data is not None:
        return _rearranged(to, data, updates, rows.elements)
    hits = to.constant(np.ones(updates.shape, np.int32))
    shape = to.sizes(*data.shape)
    counted = to.emit("SCATTER_ND", [rows, hits, shape], data.shape, np.int32)
    zero = to.constant(np.zeros((), np.int32))
    hit = to.emit("GREATER", [counted, zero], data.shape, np.bool_)
    condition = Value(hit, layout.identity(data.rank), np.dtype(np.bool_))
    wide = casted(to, updates, np.int32) if data.dtype == np.int16 else updates
    written = casted(to, _written(to, wide, rows, data.shape), data.dtype)
    return select(to, condition, written, data, data.shape)


def _rearranged(to: Builder, data: Value, updates: Value, rows: np.ndarray) -> Value:
    """With constant indices: one GATHER from the data with the updates behind it."""
    order = np.arange(data.tensor.size, dtype=np.int32).reshape(data.shape)
    place = tuple(np.moveaxis(rows, -1, 0))
    behind = np.arange(updates.tensor.size, dtype=np.int32).reshape(updates.shape)
    order[place] = behind + data.tensor.size
    size = data.tensor.size + updates.tensor.size
    flat = [_flat(to, value).tensor for value in (data, updates)]
    joined = to.emit("CONCATENATION", flat, (size,), data.dtype, axis=0)
    made = to.emit("GATHER", [joined, to.constant(order)], data.shape, data.dtype, axis=0)
    return Value(made, layout.identity(data.rank), data.dtype)


def _added(to: Builder, data: Value, updates: Value, rows: Tensor) -> Value:
    dtype = data.dtype
    if dtype in NARROW:
        data, updates = casted(to, data, np.int32), casted(to, updates, np.int32)
    made = pair(to, "ADD", data, _written(to, updates, rows, data.shape), shape=data.shape)
    return casted(to, made, dtype)


def _written(to: Builder, updates: Value, rows: Tensor, shape: tuple[int, ...]) -> Value:
    """The updates in place, zeros between; what meets is added."""
    made = to.emit("SCATTER_ND", [rows, to.stored(updates), to.sizes(*shape)], shape, updates.dtype)
    return Value(made, layout.identity(len(shape)), updates.dtype)


OPERATORS: dict[str, Lowering] = {
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
