"""Values that indices make: one-hot vectors, running sums, and constants of a shape."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import casted, plain
from hasten.runtimes.litert.lowering.operators.indexing import turned_positive
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def _one_hot(node: Node, to: Builder) -> None:
    """ONE_HOT; an index out of range gives a vector without the one."""
    depth = int(to.require(node.input(1), "depth").item())
    off, on = to.require(node.input(2), "pair of values")
    indices = plain(to, to.value(node.input(0)))
    if indices.dtype not in {np.dtype(np.int32), np.dtype(np.int64)}:
        indices = casted(to, indices, np.int32)
    rows = to.stored(turned_positive(to, indices, [depth]))
    values = [to.constant(np.array(number, node.dtype)) for number in (on, off)]
    axis = node.attribute("axis", -1) % len(node.shape)
    inputs = [rows, to.constant(np.array(depth, np.int32)), *values]
    made = to.emit("ONE_HOT", inputs, node.shape, node.dtype, axis=axis)
    to.bind(node.outputs[0], made)


def _cumulative_sum(node: Node, to: Builder) -> None:
    """CUMSUM along one axis that is known now."""
    value = plain(to, to.value(node.input(0)))
    axis = int(to.require(node.input(1), "axis").item())
    where = to.constant(np.array(layout.stored_axis(value.perm, axis), np.int32))
    made = to.emit(
        "CUMSUM",
        [value.tensor, where],
        value.tensor.shape,
        value.dtype,
        exclusive=bool(node.attribute("exclusive", 0)),
        reverse=bool(node.attribute("reverse", 0)),
    )
    to.bind_value(node.outputs[0], Value(made, value.perm, value.dtype))


def _identity_matrix(node: Node, to: Builder) -> None:
    """EyeLike reads a shape alone, so that it is known now."""
    shape = to.value(node.input(0)).shape
    matrix = np.eye(shape[0], shape[1], k=node.attribute("k", 0), dtype=node.dtype)
    to.bind(node.outputs[0], to.constant(matrix, node.outputs[0]))


def _depends_on_data(_node: Node, _to: Builder) -> None:
    """Constants were folded before: what is left has a shape that only running it tells."""
    raise Unsupported("the shape of its output depends on data")


OPERATORS: dict[str, Lowering] = {
    "ConstantOfShape": _depends_on_data,
    "CumSum": _cumulative_sum,
    "EyeLike": _identity_matrix,
    "NonZero": _depends_on_data,
    "OneHot": _one_hot,
    "Range": _depends_on_data,
}
