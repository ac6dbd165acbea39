"""Bits of integers."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering.broadcast import align
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import casted, pair, plain
from hasten.runtimes.litert.lowering.operators.selection import select
from hasten.runtimes.litert.lowering.operators.shape import expanded
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.operators.unary import number
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def _exclusive_or(node: Node, to: Builder) -> None:
    """BITWISE_XOR."""
    to.bind_value(node.outputs[0], _emit(to, "BITWISE_XOR", _operands(node, to), node.shape))


def _conjunction(node: Node, to: Builder) -> None:
    """STABLEHLO_AND, the one kernel there is."""
    to.bind_value(node.outputs[0], _and(node, to))


def _disjunction(node: Node, to: Builder) -> None:
    """Bits that differ, and bits that are in both."""
    differ = _emit(to, "BITWISE_XOR", _operands(node, to), node.shape)
    made = _emit(to, "BITWISE_XOR", [differ, _and(node, to)], node.shape)
    to.bind_value(node.outputs[0], made)


def _inverse(node: Node, to: Builder) -> None:
    """All bits exchanged: ``-1 - x`` in two's complement."""
    value = plain(to, to.value(node.input(0)))
    ones = number(to, -1, np.dtype(np.int64) if value.dtype == np.int64 else np.dtype(np.int32))
    wide = casted(to, value, ones.dtype)
    made = pair(to, "SUB", ones, wide, shape=value.shape)
    to.bind_value(node.outputs[0], casted(to, made, value.dtype))


def _shift(node: Node, to: Builder) -> None:
    """In 32 bits: RIGHT_SHIFT, and to the left a product with a power of two that wraps around.

    A shift by a negative number, or by all bits, moves every bit out.
    """
    if node.dtype == np.int64:
        raise Unsupported("shifts int64")
    value, places = (casted(to, one, np.int32) for one in _operands(node, to))
    shape, wide = places.shape, value.dtype
    at_most = pair(to, "MINIMUM", places, number(to, _LAST_BIT, wide), shape=shape)
    below = _compared(to, "LESS", places, number(to, 0, wide))
    inside = select(to, below, number(to, _LAST_BIT, wide), at_most, shape)
    if node.attribute("direction") == "RIGHT":
        made = pair(to, "RIGHT_SHIFT", value, inside, shape=node.shape)
    else:
        factor = pair(to, "POW", number(to, 2, wide), inside, shape=shape)
        kept = _compared(to, "EQUAL", places, inside)
        factor = select(to, kept, factor, number(to, 0, wide), shape)
        made = pair(to, "MUL", value, factor, shape=node.shape)
    to.bind_value(node.outputs[0], casted(to, made, node.dtype))


_LAST_BIT = 31


def _compared(to: Builder, kind: str, one: Value, other: Value) -> Value:
    return pair(to, kind, one, other, shape=one.shape, dtype=np.dtype(np.bool_))


def _and(node: Node, to: Builder) -> Value:
    """STABLEHLO_AND does not broadcast."""
    operands = [expanded(to, value, node.shape) for value in _operands(node, to)]
    return _emit(to, "STABLEHLO_AND", operands, node.shape)


def _operands(node: Node, to: Builder) -> list[Value]:
    return [plain(to, to.value(name)) for name in node.inputs]


def _emit(to: Builder, kind: str, values: list[Value], shape: tuple[int, ...]) -> Value:
    """Narrow integers as they are: these kernels take no scales."""
    tensors, perm = align(to, values, shape)
    made = to.emit(kind, tensors, tuple(shape[axis] for axis in perm), values[0].dtype)
    return Value(made, perm, values[0].dtype)


OPERATORS: dict[str, Lowering] = {
    "BitShift": _shift,
    "BitwiseAnd": _conjunction,
    "BitwiseNot": _inverse,
    "BitwiseOr": _disjunction,
    "BitwiseXor": _exclusive_or,
}
