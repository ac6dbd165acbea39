"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import NARROW, casted, pair, plain
from hasten.runtimes.litert.lowering.operators.shape import movable
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.operators.unary import call, magnitude, number
from hasten.runtimes.litert.lowering.program import Tensor

__all__ = ["OPERATORS", "reduce_axes", "without"]

_LARGEST = float(np.finfo(np.float32).max)


def _average(node: Node, to: Builder) -> None:
    """MEAN, which may write another scale in integers."""
    _rescaled(node, to, "MEAN")


def _total(node: Node, to: Builder) -> None:
    """SUM, which may write another scale in integers."""
    _rescaled(node, to, "SUM")


def _rescaled(node: Node, to: Builder, kind: str) -> None:
    value = to.value(node.input(0))
    form = to.target(node.outputs[0], value)
    axes = reduce_axes(node, to, value.rank)
    if form is None or not axes:
        _bind(node, to, kind, plain(to, value))
        return
    tensor, perm = value.tensor, value.perm
    made = _reduced(to, kind, tensor, perm, axes, keep=bool(node.attribute("keepdims", 1)))
    made[0].dtype, made[0].quantization = form.dtype, form.quantization
    to.bind_value(node.outputs[0], Value(*made, node.dtype))


def _product(node: Node, to: Builder) -> None:
    """REDUCE_PROD."""
    _bind(node, to, "REDUCE_PROD", plain(to, to.value(node.input(0))))


def _extreme(kind: str, of_bool: str) -> Lowering:
    """The largest or smallest, which integers of one scale have as they are."""

    def lower(node: Node, to: Builder) -> None:
        value = movable(to, to.value(node.input(0)))
        _bind(node, to, of_bool if value.dtype == np.bool_ else kind, value)

    return lower


def _composed(
    before: Callable[[Builder, Value], Value] | None,
    after: Callable[[Builder, Value], Value] | None,
) -> Lowering:
    """A sum of something made of each element, of which something is made."""

    def lower(node: Node, to: Builder) -> None:
        value = _wide(to, plain(to, to.value(node.input(0))))
        if before is not None:
            value = before(to, value)
        made = _summed(node, to, value)
        if after is not None:
            made = after(to, made)
        to.bind_value(node.outputs[0], casted(to, made, node.dtype))

    return lower


def _log_sum_exp(node: Node, to: Builder) -> None:
    """Exponentials are taken below the largest element, which is kept finite to take it off."""
    value = plain(to, to.value(node.input(0)))
    axes = reduce_axes(node, to, value.rank)
    if not axes:
        to.bind_value(node.outputs[0], value)
        return
    peak = Value(*_reduced(to, "REDUCE_MAX", value.tensor, value.perm, axes, keep=True), FLOAT)
    low = pair(to, "MAXIMUM", peak, number(to, -_LARGEST), shape=peak.shape)
    peak = pair(to, "MINIMUM", low, number(to, _LARGEST), shape=peak.shape)
    below = call(to, "EXP", pair(to, "SUB", value, peak, shape=value.shape))
    summed = Value(*_reduced(to, "SUM", below.tensor, below.perm, axes, keep=True), FLOAT)
    made = pair(to, "ADD", call(to, "LOG", summed), peak, shape=peak.shape)
    if not node.attribute("keepdims", 1):
        at = [layout.stored_axis(made.perm, axis) for axis in axes]
        left = [size for one, size in enumerate(made.tensor.shape) if one not in at]
        made = Value(to.reshaped(made.tensor, left), without(made.perm, at), FLOAT)
    to.bind_value(node.outputs[0], made)


def _bind(node: Node, to: Builder, kind: str, value: Value) -> None:
    wide = _wide(to, value) if kind in {"MEAN", "SUM", "REDUCE_PROD"} else value
    axes = reduce_axes(node, to, value.rank)
    if axes:
        keep = bool(node.attribute("keepdims", 1))
        made = _reduced(to, kind, wide.tensor, wide.perm, axes, keep=keep)
        wide = Value(*made, wide.dtype)
    to.bind_value(node.outputs[0], casted(to, wide, value.dtype))


def _summed(node: Node, to: Builder, value: Value) -> Value:
    axes = reduce_axes(node, to, value.rank)
    if not axes:
        return value
    keep = bool(node.attribute("keepdims", 1))
    return Value(*_reduced(to, "SUM", value.tensor, value.perm, axes, keep=keep), value.dtype)


def _wide(to: Builder, value: Value) -> Value:
    return casted(to, value, np.int32) if value.dtype in NARROW else value


def _reduced(
    to: Builder, kind: str, tensor: Tensor, perm: layout.Perm, axes: Sequence[int], *, keep: bool
) -> tuple[Tensor, layout.Perm]:
    order = sorted(layout.stored_axis(perm, axis) for axis in axes)
    shape = _shape(tensor.shape, order, keep=keep)
    made = to.emit(kind, [tensor, to.sizes(*order)], shape, like=tensor, keepDims=keep)
    return made, perm if keep else without(perm, order)


def reduce_axes(node: Node, to: Builder, rank: int) -> list[int]:
    """Axes of ONNX's order, not negative; empty where nothing is to be reduced."""
    given = node.attribute("axes")
    if given is None and node.input(1):
        given = to.require(node.input(1), "list of axes").tolist()
    if not given:
        return [] if node.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({axis % rank for axis in given})


def _shape(shape: Sequence[int], axes: Sequence[int], *, keep: bool) -> list[int]:
    if keep:
        return [1 if at in axes else size for at, size in enumerate(shape)]
    return [size for at, size in enumerate(shape) if at not in axes]


def without(perm: layout.Perm, stored: Sequence[int]) -> layout.Perm:
    """The order of the axes that are left, counted anew.

    >>> without((0, 2, 3, 1), [1, 2])
    (0, 1)
    """
    left = [axis for at, axis in enumerate(perm) if at not in stored]
    return tuple(sorted(left).index(axis) for axis in left)


def _square(to: Builder, value: Value) -> Value:
    return pair(to, "MUL", value, value, shape=value.shape)


def _logarithm(to: Builder, value: Value) -> Value:
    return call(to, "LOG", value)


def _root(to: Builder, value: Value) -> Value:
    return call(to, "SQRT", value)


OPERATORS: dict[str, Lowering] = {
    "ReduceL1": _composed(magnitude, None),
    "ReduceL2": _composed(_square, _root),
    "ReduceLogSum": _composed(None, _logarithm),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme("REDUCE_MAX", "REDUCE_ANY"),
    "ReduceMean": _average,
    "ReduceMin": _extreme("REDUCE_MIN", "REDUCE_ALL"),
    "ReduceProd": _product,
    "ReduceSum": _total,
    "ReduceSumSquare": _composed(_square, None),
}
