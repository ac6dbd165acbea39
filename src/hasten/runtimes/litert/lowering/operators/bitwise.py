"""Bits of integers."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering.broadcast import align
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import casted, pair, plain
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.operators.unary import number
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def exclusive_or(node: Node, to: Builder) -> None:
    """BITWISE_XOR."""
    to.bind_value(node.outputs[0], _emit(to, "BITWISE_XOR", _operands(node, to), node.shape))


def conjunction(node: Node, to: Builder) -> None:
    """STABLEHLO_AND, the one kernel there is."""
    to.bind_value(node.outputs[0], _and(node, to))


def disjunction(node: Node, to: Builder) -> None:
    """Bits that differ, and bits that are in both."""
    differ = _emit(to, "BITWISE_XOR", _operands(node, to), node.shape)
    made = _emit(to, "BITWISE_XOR", [differ, _and(node, to)], node.shape)
    to.bind_value(node.outputs[0], made)


def inverse(node: Node, to: Builder) -> None:
    """All bits exchanged: ``-1 - x`` in two's complement."""
    value = plain(to, to.value(node.input(0)))
    ones = number(to, -1, np.dtype(np.int64) if value.dtype == np.int64 else np.dtype(np.int32))
    wide = casted(to, value, ones.dtype)
    made = pair(to, "SUB", ones, wide, shape=value.shape)
    to.bind_value(node.outputs[0], casted(to, made, value.dtype))


def shift(node: Node, to: Builder) -> None:
    """RIGHT_SHIFT; to the left, a product with a power of two that wraps around."""
    value, places = _operands(node, to)
    if node.attribute("direction") == "RIGHT":
        to.bind_value(node.outputs[0], _emit(to, "RIGHT_SHIFT", [value, places], node.shape))
        return
    wide = np.dtype(np.int32)
    value, places = casted(to, value, wide), casted(to, places, wide)
    factor = pair(to, "POW", number(to, 2, wide), places, shape=places.shape)
    made = pair(to, "MUL", value, factor, shape=node.shape)
    to.bind_value(node.outputs[0], casted(to, made, node.dtype))


def _and(node: Node, to: Builder) -> Value:
    operands = _operands(node, to)
    if any(value.shape != node.shape for value in operands):
        raise Unsupported("STABLEHLO_AND does not broadcast")
    return _emit(to, "STABLEHLO_AND", operands, node.shape)


def _operands(node: Node, to: Builder) -> list[Value]:
    return [plain(to, to.value(name)) for name in node.inputs]


def _emit(to: Builder, kind: str, values: list[Value], shape: tuple[int, ...]) -> Value:
    """Narrow integers as they are: these kernels take no scales."""
    tensors, perm = align(to, values, shape)
    made = to.emit(kind, tensors, tuple(shape[axis] for axis in perm), values[0].dtype)
    return Value(made, perm, values[0].dtype)


OPERATORS: dict[str, Lowering] = {
    "BitShift": shift,
    "BitwiseAnd": conjunction,
    "BitwiseNot": inverse,
    "BitwiseOr": disjunction,
    "BitwiseXor": exclusive_or,
}
