"""Gather and scatter: rows of the indices and rows of the data must be the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasten.graph.rows.node import Node, Undecided
from hasten.graph.rows.rules.rule import Rule, Shapes
from hasten.graph.rows.tensor import FIXED, ROW_COUNTS, Flow, Rows, Sized, by_row, grown_axis

__all__ = ["RULES"]

_PICKED = "picks some of the rows"


def _gather(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    data, indices = node.rows(0), node.rows(1)
    axis, depth = node.axis(node.rank(0), 0), node.rank(1)
    if data is not None and _is_numbered(node):
        if data.axis != axis or data.outer != 1:
            raise Undecided("numbers of rows along another axis")
        own = _own_places(node, node.shapes(0)[0][axis] // ROW_COUNTS[0], component=None)
        return Rows(axis + own)
    if data is None:
        return FIXED if indices is None else Rows(axis + indices.axis, indices.outer)
    if data.axis == axis:
        return node.joined(_PICKED)
    if indices is not None:
        return node.joined("gives each row what every other one picks")
    return Rows(data.axis if data.axis < axis else data.axis + depth - 1, data.outer)


def _gather_elements(node: Node, made: Sequence[Shapes]) -> Flow:
    """GatherElements and ScatterElements: each place along the other axes is alone."""
    del made
    axis = node.axis(node.rank(0), 0)
    flows = [node.rows(at) for at in range(len(node.inputs))]
    found = set(flows) - {None}
    if not found:
        return FIXED
    if len(found) > 1 or None in flows:
        raise Undecided("rows beside what has none, or along another axis")
    rows = found.pop()
    if rows is None or rows.axis == axis:
        return node.joined(_PICKED)
    return rows


def _gather_nd(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    data, indices = node.rows(0), node.rows(1)
    alike = int(node.attribute("batch_dims", 0))
    depth = node.shapes(1)[0][-1]
    if data is None:
        if indices is not None and (indices.axis < alike or indices.axis == node.rank(1) - 1):
            raise Undecided("rows of the indices alone")
        return indices or FIXED
    if _is_numbered(node):
        if data.outer != 1 or not alike <= data.axis < alike + depth:
            raise Undecided("numbers of rows along another axis")
        per_row = node.shapes(0)[0][data.axis] // ROW_COUNTS[0]
        return Rows(_own_places(node, per_row, component=data.axis - alike))
    if data.axis < alike:
        if indices != data:
            raise Undecided("rows of the data alone")
        return data
    if data.axis < alike + depth:
        return node.joined(_PICKED)
    if indices is not None:
        return node.joined("gives each row what every other one picks")
    return Rows(data.axis - alike - depth + node.rank(1) - 1, data.outer)


def _is_numbered(node: Node) -> bool:
    """Whether the indices are numbers of rows, or places in what rows make when laid in a line."""
    tensor = node.tensor(1)
    return tensor is not None and isinstance(tensor.flow, Sized)


def _own_places(node: Node, per_row: int, *, component: int | None) -> int:
    """Return the axis of indices along which row i takes what lies ``per_row * i`` further on.

    So each takes its own, as with ``x[arange(rows)]``. ``component`` is the part of an index that
    numbers rows, where an index has several; the others must be the same for all rows.
    """
    tensor = node.tensor(1)
    values = None if tensor is None else tensor.values
    if values is None:
        raise Undecided("the number of rows is among its values")
    axis = grown_axis((values[0].shape, values[1].shape))
    if axis is None or (component is not None and axis == values[0].ndim - 1):
        raise Undecided("the number of rows is among its values")
    first = by_row(values[0], axis, ROW_COUNTS[0])[0]
    for value, count in zip(values, ROW_COUNTS, strict=True):
        rows = by_row(value, axis, count)
        number = np.arange(count).reshape(count, *[1] * (rows.ndim - 1)) * per_row
        if component is None:
            step = number
        else:
            step = np.zeros((count, *[1] * (rows.ndim - 2), rows.shape[-1]), np.int64)
            step[..., component] = number.reshape(step[..., component].shape)
        if not bool((rows == first + step).all()):
            raise Undecided("it does not take each row's own")
    own = first if component is None else first[..., component]
    if bool((own < 0).any()) or bool((own >= per_row).any()):
        raise Undecided("it does not take each row's own")
    return axis


RULES: dict[tuple[str, str], Rule] = {
    ("", "Gather"): _gather,
    ("", "GatherElements"): _gather_elements,
    ("", "ScatterElements"): _gather_elements,
    ("", "GatherND"): _gather_nd,
}
