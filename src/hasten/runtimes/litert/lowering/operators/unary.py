"""Functions of one number, apart from activations."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import NARROW, casted, pair, plain
from hasten.runtimes.litert.lowering.operators.table import Lowering

__all__ = ["OPERATORS", "call", "magnitude", "number"]


def _function(kind: str) -> Lowering:
    """One builtin operator; narrow integers are computed in 32 bits."""

    def lower(node: Node, to: Builder) -> None:
        value = plain(to, to.value(node.input(0)))
        wide = casted(to, value, np.int32) if value.dtype in NARROW else value
        to.bind_value(node.outputs[0], casted(to, call(to, kind, wide), value.dtype))

    return lower


def call(to: Builder, kind: str, value: Value) -> Value:
    """One operator on one operand as it is."""
    made = to.emit(kind, [value.tensor], value.tensor.shape, value.dtype)
    return Value(made, value.perm, value.dtype)


def number(to: Builder, what: float, dtype: np.dtype[np.generic] = FLOAT) -> Value:
    """A constant without axes."""
    return Value(to.constant(np.array(what, dtype)), (), np.dtype(dtype))


def _absolute(node: Node, to: Builder) -> None:
    """ABS; the greater of both signs where there is no kernel."""
    value = to.value(node.input(0))
    if value.dtype != np.int64:
        _function("ABS")(node, to)
        return
    to.bind_value(node.outputs[0], magnitude(to, value))


def magnitude(to: Builder, value: Value) -> Value:
    """Absolute value of a wide number."""
    if value.dtype != np.int64:
        return call(to, "ABS", value)
    return pair(to, "MAXIMUM", value, call(to, "NEG", value), shape=value.shape)


def _sign(node: Node, to: Builder) -> None:
    """SIGN; of int64 by clipping to -1, 0, 1."""
    value = to.value(node.input(0))
    if value.dtype != np.int64:
        _function("SIGN")(node, to)
        return
    low = pair(to, "MAXIMUM", value, number(to, -1, value.dtype), shape=value.shape)
    to.bind_value(
        node.outputs[0], pair(to, "MINIMUM", low, number(to, 1, value.dtype), shape=value.shape)
    )


def _reciprocal(node: Node, to: Builder) -> None:
    """One divided by the operand."""
    value = plain(to, to.value(node.input(0)))
    to.bind_value(node.outputs[0], pair(to, "DIV", number(to, 1.0), value, shape=value.shape))


OPERATORS: dict[str, Lowering] = {
    "Abs": _absolute,
    "Ceil": _function("CEIL"),
    "Exp": _function("EXP"),
    "Floor": _function("FLOOR"),
    "Log": _function("LOG"),
    "Neg": _function("NEG"),
    "Reciprocal": _reciprocal,
    "Round": _function("ROUND"),
    "Sign": _sign,
    "Sqrt": _function("SQRT"),
}
