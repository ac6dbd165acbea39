"""Elements replaced by index. TFLite's SCATTER_ND starts from zeros and adds what meets."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import NARROW, casted, pair, plain
from hasten.runtimes.litert.lowering.operators.indexing import element_rows, from_start
from hasten.runtimes.litert.lowering.operators.selection import select
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def scatter_nd(node: Node, to: Builder) -> None:
    """The last axis of indices counts along the first axes of the data."""
    indices = to.value(node.input(1))
    shape = to.value(node.input(0)).shape
    rows = from_start(to, indices, list(shape[: indices.shape[-1]]))
    _scatter(node, to, rows)


def scatter_elements(node: Node, to: Builder) -> None:
    """Each index counts along one axis; where it stands says the rest."""
    shape = to.value(node.input(0)).shape
    axis = node.attribute("axis", 0) % len(shape)
    _scatter(node, to, element_rows(to, shape, to.value(node.input(1)), axis))


def _scatter(node: Node, to: Builder, rows: Tensor) -> None:
    data, updates = plain(to, to.value(node.input(0))), plain(to, to.value(node.input(2)))
    if rows.dtype != np.int32:  # SCATTER_ND takes no other indices
        rows = to.emit("CAST", [rows], rows.shape, np.int32)
    how = node.attribute("reduction", "none")
    if how == "none":
        made = _replaced(to, data, updates, rows)
    elif how == "add":
        made = _added(to, data, updates, rows)
    else:
        raise Unsupported(f"combines what it scatters by {how}")
    to.bind_value(node.outputs[0], made)


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
    flat = [to.reshaped(to.stored(value), (value.tensor.size,)) for value in (data, updates)]
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
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
}
