"""Elements taken from one of two operands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.broadcast import align
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import plain
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor

__all__ = ["OPERATORS", "select"]


def _where(node: Node, to: Builder) -> None:
    """SELECT_V2; both operands in one scale, or real."""
    condition, one, other = (to.value(name) for name in node.inputs)
    form = to.target(node.outputs[0], one, other)
    if form is not None:
        one, other = (to.quantized(value, *form) for value in (one, other))
    else:
        one, other = plain(to, one), plain(to, other)
    to.bind_value(node.outputs[0], select(to, condition, one, other, node.shape))


def select(
    to: Builder, condition: Value, one: Value, other: Value, shape: tuple[int, ...]
) -> Value:
    """``one`` where the condition holds, else ``other``: stored alike, and broadcast to ``shape``.

    The shape broadcasts as ONNX has it.
    """
    tensors, perm = align(to, [condition, one, other], shape)
    stored = tuple(shape[axis] for axis in perm)
    made = to.emit("SELECT_V2", tensors, stored, like=tensors[1])
    return Value(made, perm, one.dtype)


def _triangle(node: Node, to: Builder) -> None:
    """Trilu: the mask is known now; what it hides becomes zero, whatever it was."""
    value = to.value(node.input(0))
    if value.quantized and not value.tensor.quantization.per_tensor:  # type: ignore[union-attr]
        value = plain(to, value)
    offset = int(to.require(node.input(1), "k").item()) if node.input(1) else 0
    ones = np.ones(value.shape[-2:], np.bool_)
    kept = np.triu(ones, offset) if node.attribute("upper", 1) else np.tril(ones, offset)
    mask = Value(to.constant(kept), layout.identity(2), np.dtype(np.bool_))
    zero = replace(value, tensor=_zero(to, value.tensor), perm=())
    to.bind_value(node.outputs[0], select(to, mask, value, zero, node.shape))


def _zero(to: Builder, like: Tensor) -> Tensor:
    point = 0 if like.quantization is None else int(like.quantization.zero_point.item())
    return to.constant(np.array(point, like.dtype), quantization=like.quantization)


OPERATORS: dict[str, Lowering] = {"Trilu": _triangle, "Where": _where}
