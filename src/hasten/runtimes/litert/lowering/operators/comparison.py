"""Comparisons and logic: what gives bool."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import pair, plain
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.operators.unary import call, number

__all__ = ["OPERATORS"]

_BOOL = np.dtype(np.bool_)


def _compare(kind: str) -> Lowering:
    """Two operands of one dtype, compared element by element."""

    def lower(node: Node, to: Builder) -> None:
        one, other = (plain(to, to.value(name)) for name in node.inputs)
        to.bind_value(node.outputs[0], pair(to, kind, one, other, shape=node.shape, dtype=_BOOL))

    return lower


def _negate(node: Node, to: Builder) -> None:
    """True for false."""
    to.bind_value(node.outputs[0], call(to, "LOGICAL_NOT", to.value(node.input(0))))


def _is_nan(node: Node, to: Builder) -> None:
    """What differs from itself."""
    value = plain(to, to.value(node.input(0)))
    made = pair(to, "NOT_EQUAL", value, value, shape=value.shape, dtype=_BOOL)
    to.bind_value(node.outputs[0], made)


def _is_inf(node: Node, to: Builder) -> None:
    """Both infinities or one of them."""
    value = plain(to, to.value(node.input(0)))
    below = bool(node.attribute("detect_negative", 1))
    above = bool(node.attribute("detect_positive", 1))
    compared, bound = value, np.inf if above else -np.inf
    if below and above:
        compared = call(to, "ABS", value)
    if not below and not above:
        bound = np.nan  # equals nothing
    made = _equal(to, compared, bound)
    to.bind_value(node.outputs[0], made)


def _equal(to: Builder, value: Value, bound: float) -> Value:
    return pair(to, "EQUAL", value, number(to, bound), shape=value.shape, dtype=_BOOL)


OPERATORS: dict[str, Lowering] = {
    "And": _compare("LOGICAL_AND"),
    "Equal": _compare("EQUAL"),
    "Greater": _compare("GREATER"),
    "GreaterOrEqual": _compare("GREATER_EQUAL"),
    "IsInf": _is_inf,
    "IsNaN": _is_nan,
    "Less": _compare("LESS"),
    "LessOrEqual": _compare("LESS_EQUAL"),
    "Not": _negate,
    "Or": _compare("LOGICAL_OR"),
    "Xor": _compare("NOT_EQUAL"),
}
