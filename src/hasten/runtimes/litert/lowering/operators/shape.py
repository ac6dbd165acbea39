"""Shapes and orders of axes: elements are moved or renamed, never computed."""

from __future__ import annotations

from dataclasses import replace

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering

__all__ = ["OPERATORS"]


def _identity(node: Node, to: Builder) -> None:
    """The same value under another name."""
    to.bind_value(node.outputs[0], to.value(node.input(0)))


def _reshape(node: Node, to: Builder) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: shape inference knows what comes out."""
    value = to.value(node.input(0))
    tensor = value.tensor
    if layout.moves_data(
        layout.transposition(value.perm, layout.identity(value.rank)), tensor.shape
    ):
        tensor = to.stored(value)
    if tensor.quantization is not None and not tensor.quantization.per_tensor:
        tensor = to.real(replace(value, tensor=tensor)).tensor
    made = to.reshaped(tensor, node.shape)
    to.bind(node.outputs[0], made, dtype=value.dtype)


def _transpose(node: Node, to: Builder) -> None:
    """Axes get other names; elements move when somebody needs them in order."""
    value = to.value(node.input(0))
    order = node.attribute("perm", list(reversed(range(value.rank))))
    perm = tuple(order.index(axis) for axis in value.perm)
    to.bind_value(node.outputs[0], replace(value, perm=perm))


def _concat(node: Node, to: Builder) -> None:
    """Along one axis, in the order that the first computed operand is stored in."""
    values = [to.value(name) for name in node.inputs]
    form = to.target(node.outputs[0], *values)
    if form is not None:
        values = [to.quantized(value, form.quantization, form.dtype) for value in values]
    else:
        values = [to.real(value) for value in values]
    perm = next((value.perm for value in values if not value.constant), values[0].perm)
    made = to.emit(
        "CONCATENATION",
        [to.stored(value, perm) for value in values],
        layout.apply(perm, node.shape),
        node.dtype if form is None else form.dtype,
        quantization=None if form is None else form.quantization,
        axis=layout.stored_axis(perm, node.attribute("axis")),
    )
    to.bind(node.outputs[0], made, perm, node.dtype)


OPERATORS: dict[str, Lowering] = {
    "Concat": _concat,
    "Dropout": _identity,
    "Flatten": _reshape,
    "Identity": _identity,
    "Reshape": _reshape,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
