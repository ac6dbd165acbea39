"""Arithmetic of two operands or more: element by element, with broadcasting."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np

from hasten.runtimes.litert.lowering.broadcast import align
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["NARROW", "OPERATORS", "casted", "combine", "pair", "plain"]

#: Kinds with kernels that read integers of one scale each and write another.
_RESCALING = frozenset({"ADD", "SUB", "MUL"})

#: Without a scale, these have few kernels, and XNNPACK ends the process on some.
NARROW = frozenset(np.dtype(kind) for kind in (np.int8, np.uint8, np.int16))


def _binary(kind: str) -> Lowering:
    """An operator of two operands."""

    def lower(node: Node, to: Builder) -> None:
        values = [to.value(name) for name in node.inputs]
        to.bind_value(node.outputs[0], combine(to, kind, values, node))

    return lower


def _variadic(kind: str) -> Lowering:
    """An operator of any number of operands, two at a time."""

    def lower(node: Node, to: Builder) -> None:
        to.bind_value(node.outputs[0], _accumulated(to, kind, node))

    return lower


def _extreme(kind: str) -> Lowering:
    """Max and Min: of integers of one scale they are among the same integers."""

    def lower(node: Node, to: Builder) -> None:
        values = [to.value(name) for name in node.inputs]
        form = values[0].tensor.quantization
        alike = form is not None and all(
            value.activation_like(values[0].tensor.dtype)
            and form.same(value.tensor.quantization)
            and value.dtype == FLOAT
            for value in values
        )
        if not alike:
            to.bind_value(node.outputs[0], _accumulated(to, kind, node))
            return

        def step(one: Value, other: Value) -> Value:
            shape = np.broadcast_shapes(one.shape, other.shape)
            tensors, perm = align(to, [one, other], shape)
            stored = tuple(shape[axis] for axis in perm)
            return Value(to.emit(kind, tensors, stored, like=tensors[0]), perm, node.dtype)

        to.bind_value(node.outputs[0], reduce(step, values))

    return lower


def _accumulated(to: Builder, kind: str, node: Node) -> Value:
    """All operands of a node, one after another."""
    values = [plain(to, to.value(name)) for name in node.inputs]

    def step(one: Value, other: Value) -> Value:
        return pair(to, kind, one, other, shape=np.broadcast_shapes(one.shape, other.shape))

    return reduce(step, values)


def _mean(node: Node, to: Builder) -> None:
    """The sum, divided by the number of operands."""
    total = _accumulated(to, "ADD", node)
    count = Value(to.constant(np.array(len(node.inputs), np.float32)), (), FLOAT)
    to.bind_value(node.outputs[0], pair(to, "DIV", total, count, shape=total.shape))


def combine(to: Builder, kind: str, values: list[Value], node: Node) -> Value:
    """Two operands, in integers where the kernel has that and the graph asks for it."""
    form = to.target(node.outputs[0], *values) if kind in _RESCALING else None
    if form is None:
        one, other = (plain(to, value) for value in values)
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
    narrow = one.dtype in NARROW
    if narrow:
        one, other = (casted(to, value, np.int32) for value in (one, other))
    tensors, perm = align(to, [one, other], shape)
    made_dtype = np.int32 if narrow and dtype in NARROW else dtype
    made = to.emit(kind, tensors, tuple(shape[axis] for axis in perm), made_dtype)
    return casted(to, Value(made, perm, np.dtype(made_dtype)), dtype)


def casted(to: Builder, value: Value, dtype: type | np.dtype[np.generic]) -> Value:
    """The value in another dtype."""
    dtype = np.dtype(dtype)
    if value.dtype == dtype:
        return value
    if value.constant:
        made = to.constant(value.tensor.elements.astype(dtype), value.tensor.name)
    else:
        made = to.emit("CAST", [value.tensor], value.tensor.shape, dtype)
    return Value(made, value.perm, dtype)


def plain(to: Builder, value: Value) -> Value:
    """The value as numbers without a scale, in the dtype that ONNX has for it.

    What QuantizeLinear gives are codes, which a graph may also compute with.
    """
    if value.tensor.quantization is None or value.dtype == FLOAT:
        return to.real(value)
    stored = value.tensor.dtype
    if value.constant:
        raise Unsupported("computes with the codes of a constant")
    wide = Value(
        to.emit("CAST", [value.tensor], value.tensor.shape, np.int32),
        value.perm,
        np.dtype(np.int32),
    )
    if stored != value.dtype:
        shift = to.constant(np.array(-int(np.iinfo(stored).min), np.int32))
        made = to.emit("ADD", [wide.tensor, shift], wide.tensor.shape, np.int32)
        wide = replace(wide, tensor=made)
    return casted(to, wide, value.dtype)


OPERATORS: dict[str, Lowering] = {
    "Add": _binary("ADD"),
    "Max": _extreme("MAXIMUM"),
    "Mean": _mean,
    "Min": _extreme("MINIMUM"),
    "Mul": _binary("MUL"),
    "Sub": _binary("SUB"),
    "Sum": _variadic("ADD"),
}
