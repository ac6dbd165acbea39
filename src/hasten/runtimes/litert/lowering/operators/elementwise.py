"""Arithmetic, comparisons and logic: element by element, with broadcasting."""

from __future__ import annotations

from functools import reduce

import numpy as np

from hasten.runtimes.litert.lowering.broadcast import align
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering

__all__ = ["OPERATORS", "combine", "pair"]

#: Kinds with kernels that read integers of one scale each and write another.
_RESCALING = frozenset({"ADD", "SUB", "MUL"})

_NARROW = frozenset(np.dtype(kind) for kind in (np.int8, np.uint8, np.int16))


def _binary(kind: str) -> Lowering:
    """An operator of two operands."""

    def lower(node: Node, to: Builder) -> None:
        values = [to.value(name) for name in node.inputs]
        to.bind_value(node.outputs[0], combine(to, kind, values, node))

    return lower


def _variadic(kind: str) -> Lowering:
    """An operator of any number of operands, two at a time."""

    def lower(node: Node, to: Builder) -> None:
        values = [to.real(to.value(name)) for name in node.inputs]

        def step(one: Value, other: Value) -> Value:
            return pair(to, kind, one, other, shape=np.broadcast_shapes(one.shape, other.shape))

        to.bind_value(node.outputs[0], reduce(step, values))

    return lower


def combine(to: Builder, kind: str, values: list[Value], node: Node) -> Value:
    """Two operands, in integers where the kernel has that and the graph asks for it."""
    form = to.target(node.outputs[0], *values) if kind in _RESCALING else None
    if form is None:
        one, other = (to.real(value) for value in values)
        return pair(to, kind, one, other, shape=node.shape, dtype=node.dtype)
    tensors, perm = align(to, values, node.shape)
    shape = tuple(node.shape[axis] for axis in perm)
    made = to.emit(kind, tensors, shape, form.dtype, quantization=form.quantization)
    return Value(made, perm, node.dtype)


def pair(
    to: Builder,
    kind: str,
    one: Value,
    other: Value,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic] | None = None,
) -> Value:
    """One operator on two operands as they are; narrow integers are computed in 32 bits.

    A kernel takes narrow integers for quantized values. Casting back wraps around, as ONNX does.
    """
    dtype = np.dtype(one.dtype if dtype is None else dtype)
    narrow = one.dtype in _NARROW
    if narrow:
        one, other = (_casted(to, value, np.int32) for value in (one, other))
    tensors, perm = align(to, [one, other], shape)
    made_dtype = np.int32 if narrow and dtype in _NARROW else dtype
    made = to.emit(kind, tensors, tuple(shape[axis] for axis in perm), made_dtype)
    return _casted(to, Value(made, perm, np.dtype(made_dtype)), dtype)


def _casted(to: Builder, value: Value, dtype: type | np.dtype[np.generic]) -> Value:
    """The value in another dtype."""
    dtype = np.dtype(dtype)
    if value.dtype == dtype:
        return value
    if value.constant:
        made = to.constant(value.tensor.elements.astype(dtype), value.tensor.name)
    else:
        made = to.emit("CAST", [value.tensor], value.tensor.shape, dtype)
    return Value(made, value.perm, dtype)


OPERATORS: dict[str, Lowering] = {
    "Add": _binary("ADD"),
    "Sub": _binary("SUB"),
    "Mul": _binary("MUL"),
    "Div": _binary("DIV"),
    "Max": _variadic("MAXIMUM"),
    "Min": _variadic("MINIMUM"),
    "Sum": _variadic("ADD"),
}
