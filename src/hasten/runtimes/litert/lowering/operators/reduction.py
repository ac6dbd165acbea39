"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering

__all__ = ["OPERATORS", "reduce_axes"]


def _reduction(kind: str) -> Lowering:
    """An operator over the axes that are an attribute or the second input."""

    def lower(node: Node, to: Builder) -> None:
        value = to.value(node.input(0))
        form = to.target(node.outputs[0], value) if kind == "MEAN" else None
        if form is None:
            value = to.real(value)
        axes = _axes(node, to, value.rank)
        if not axes:
            to.bind_value(node.outputs[0], value)
            return
        keep = bool(node.attribute("keepdims", 1))
        order = tuple(sorted(layout.stored_axis(value.perm, axis) for axis in axes))
        made = to.emit(
            kind,
            [value.tensor, to.sizes(*order)],
            _shape(value.tensor.shape, order, keep=keep),
            value.dtype if form is None else form.dtype,
            quantization=None if form is None else form.quantization,
            keepDims=keep,
        )
        perm = value.perm if keep else _without(value.perm, order)
        to.bind_value(node.outputs[0], Value(made, perm, node.dtype))

    return lower


def reduce_axes(node: Node, to: Builder, rank: int) -> list[int]:
    """Axes of ONNX's order, not negative; empty where nothing is to be reduced."""
    return _axes(node, to, rank)


def _axes(node: Node, to: Builder, rank: int) -> list[int]:
    given = node.attribute("axes")
    if given is None and node.input(1):
        given = to.require(node.input(1), "axes").tolist()
    if not given:
        return [] if node.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({axis % rank for axis in given})


def _shape(shape: Sequence[int], axes: Sequence[int], *, keep: bool) -> list[int]:
    if keep:
        return [1 if at in axes else size for at, size in enumerate(shape)]
    return [size for at, size in enumerate(shape) if at not in axes]


def _without(perm: layout.Perm, stored: Sequence[int]) -> layout.Perm:
    """The order of the axes that are left, counted anew."""
    left = [axis for at, axis in enumerate(perm) if at not in stored]
    return tuple(sorted(left).index(axis) for axis in left)


OPERATORS: dict[str, Lowering] = {
    "ReduceMax": _reduction("REDUCE_MAX"),
    "ReduceMean": _reduction("MEAN"),
    "ReduceMin": _reduction("REDUCE_MIN"),
    "ReduceProd": _reduction("REDUCE_PROD"),
    "ReduceSum": _reduction("SUM"),
}
