"""Quotients, remainders and powers, where integers go other ways than floats."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import NARROW, casted, pair, plain
from hasten.runtimes.litert.lowering.operators.selection import select
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.operators.unary import call, magnitude, number
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def _div(node: Node, to: Builder) -> None:
    """DIV, which truncates integers as ONNX does."""
    one, other = (plain(to, to.value(name)) for name in node.inputs)
    to.bind_value(node.outputs[0], pair(to, "DIV", one, other, shape=node.shape))


def _mod(node: Node, to: Builder) -> None:
    """FLOOR_MOD has the divisor's sign; with ``fmod``, the dividend's is put on magnitudes."""
    one, other = (plain(to, to.value(name)) for name in node.inputs)
    if not node.attribute("fmod", 0):
        to.bind_value(node.outputs[0], pair(to, "FLOOR_MOD", one, other, shape=node.shape))
        return
    if one.dtype in NARROW:
        one, other = casted(to, one, np.int32), casted(to, other, np.int32)
    sizes = magnitude(to, one), magnitude(to, other)
    left = pair(to, "FLOOR_MOD", *sizes, shape=node.shape)
    below = pair(
        to, "LESS", one, number(to, 0, one.dtype), shape=one.shape, dtype=np.dtype(np.bool_)
    )
    made = select(to, below, call(to, "NEG", left), left, node.shape)
    to.bind_value(node.outputs[0], casted(to, made, node.dtype))


def _power(node: Node, to: Builder) -> None:
    """POW; products and roots for the usual constant exponents, which are faster and exact."""
    base, exponent = (plain(to, to.value(name)) for name in node.inputs)
    known = to.data_of(exponent) if exponent.constant and exponent.tensor.size == 1 else None
    if known is not None and exponent.rank <= base.rank:
        made = _known_power(to, base, float(known.item()))
        if made is not None:
            to.bind_value(node.outputs[0], made)
            return
    if base.dtype != FLOAT and exponent.dtype == FLOAT:
        raise Unsupported(f"raises {base.dtype} to a power of float32")
    wide = np.dtype(np.int32) if base.dtype in NARROW else base.dtype
    base, exponent = casted(to, base, wide), casted(to, exponent, wide)
    made = pair(to, "POW", base, exponent, shape=node.shape)
    to.bind_value(node.outputs[0], casted(to, made, node.dtype))


def _known_power(to: Builder, base: Value, exponent: float) -> Value | None:
    if exponent == 1:
        return base
    if exponent in {2, 3}:
        square = pair(to, "MUL", base, base, shape=base.shape)
        return square if exponent == 2 else pair(to, "MUL", square, base, shape=base.shape)
    if base.dtype != FLOAT:
        return None
    if exponent == 0.5:
        return call(to, "SQRT", base)
    if exponent == -1:
        return pair(to, "DIV", number(to, 1.0), base, shape=base.shape)
    return None


OPERATORS: dict[str, Lowering] = {"Div": _div, "Mod": _mod, "Pow": _power}
