"""Operators that work along some axes, and on each place of the others alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from hasten.graph.rows.node import Node, Undecided
from hasten.graph.rows.rules.rule import Rule, Shapes
from hasten.graph.rows.tensor import FIXED, Flow, Rows

__all__ = ["RULES", "WHOLE"]

_REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
""".split()  # noqa: SIM905
#: Operators that take a scale, a count or a choice from all of a tensor, by domain.
WHOLE = frozenset(
    {
        ("", "DynamicQuantizeLinear"),
        ("", "NonMaxSuppression"),
        ("", "NonZero"),
        ("", "Unique"),
        ("com.microsoft", "DynamicQuantizeLSTM"),
        ("com.microsoft", "DynamicQuantizeMatMul"),
    }
)
#: From opset 13 on these work along one axis; before, along it and all that follow.
_ONE_AXIS_FROM = 13
_AXIS_IS_INPUT_FROM = 20
_ALONG = "goes along the axis of rows"


def _removed(rows: Rows, axes: Sequence[int], *, kept: bool) -> Rows:
    """Return where rows lie once these axes are gone, or are kept with a size of 1."""
    fewer = 0 if kept else sum(axis < rows.axis for axis in axes)
    return Rows(rows.axis - fewer, rows.outer)


def _reduce(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    rows, rank = node.rows(0), node.rank(0)
    if rows is None:
        return FIXED
    axes = node.axes(1, "axes", rank)
    if not axes:
        if node.attribute("noop_with_empty_axes", 0):
            return rows
        axes = tuple(range(rank))
    if rows.axis in axes:
        return node.joined("goes over all rows")
    return _removed(rows, axes, kept=bool(node.attribute("keepdims", 1)))


def _arg_reduce(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    rows, axis = node.rows(0), node.axis(node.rank(0), 0)
    if rows is None:
        return FIXED
    if rows.axis == axis:
        return node.joined("goes over all rows")
    return _removed(rows, [axis], kept=bool(node.attribute("keepdims", 1)))


def _along(node: Node, made: Sequence[Shapes], *, axis: int) -> Flow:
    """Along one axis, the default of which is ``axis``."""
    del made
    return node.stays([node.axis(node.rank(0), axis)], _ALONG)


def _softmax(node: Node, made: Sequence[Shapes]) -> Flow:
    if node.opset >= _ONE_AXIS_FROM:
        return _along(node, made, axis=-1)
    return _from_axis_on(node, made, axis=1)


def _from_axis_on(node: Node, made: Sequence[Shapes], *, axis: int) -> Flow:
    """Along an axis and all that follow it; scales and offsets of rows are not looked into."""
    del made
    rank = node.rank(0)
    if any(node.rows(at) for at in range(1, len(node.inputs))):
        raise Undecided("scales of their own for each row")
    return node.stays(range(node.axis(rank, axis), rank), _ALONG)


def _cumulative(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    rank = node.rank(0)
    return node.stays(node.axes(1, "axis", rank) or range(rank), "sums over the rows before")


def _one_hot(node: Node, made: Sequence[Shapes]) -> Flow:
    rows = node.rows(0)
    if node.rows(1) or node.rows(2):
        raise Undecided("a depth or values of their own for each row")
    if rows is None:
        return FIXED
    axis = node.axis(len(made[0][0]), -1)
    return Rows(rows.axis + (axis <= rows.axis), rows.outer)


def _mean_variance(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    return node.stays(node.attribute("axes", [0, 2, 3]), "goes over all rows")


def _transform(node: Node, made: Sequence[Shapes]) -> Flow:
    """DFT: its axis is an input from opset 20 on."""
    del made
    rank = node.rank(0)
    given = node.constant(2) if node.opset >= _AXIS_IS_INPUT_FROM else None
    axis = node.axis(rank, 1) if node.opset < _AXIS_IS_INPUT_FROM else -2
    if given is not None:
        axis = int(given.reshape(-1)[0])
    return node.stays([axis], _ALONG)


def _compress(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    rows, axis = node.rows(0), node.attribute("axis")
    if node.rows(1) or (rows is not None and axis is None):
        return node.joined("takes some of the rows")
    if rows is None or axis is None:
        return FIXED
    if node.axis(node.rank(0), 0) == rows.axis:
        return node.joined("takes some of the rows")
    return rows


def _layer_norm(axis: int) -> Callable[[Node, Sequence[Shapes]], Flow]:
    return partial(_from_axis_on, axis=axis)


RULES: dict[tuple[str, str], Rule] = {
    **{("", name): _reduce for name in _REDUCTIONS},
    **{("", name): _arg_reduce for name in ("ArgMax", "ArgMin")},
    **{("", name): _softmax for name in ("Softmax", "LogSoftmax", "Hardmax")},
    ("", "TopK"): partial(_along, axis=-1),
    ("", "LpNormalization"): partial(_along, axis=-1),
    ("", "LayerNormalization"): _layer_norm(-1),
    ("", "RMSNormalization"): _layer_norm(-1),
    ("", "CumSum"): _cumulative,
    ("", "CumProd"): _cumulative,
    ("", "OneHot"): _one_hot,
    ("", "MeanVarianceNormalization"): _mean_variance,
    ("", "DFT"): _transform,
    ("", "Compress"): _compress,
}
