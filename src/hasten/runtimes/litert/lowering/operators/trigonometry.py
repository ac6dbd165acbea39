"""Circular and hyperbolic functions and their inverses, in forms without cancellation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import casted, pair, plain
from hasten.runtimes.litert.lowering.operators.selection import select
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.operators.unary import call, number

__all__ = ["OPERATORS"]


class _Arithmetic:
    """Formulas on floats of one shape."""

    def __init__(self, to: Builder) -> None:
        self.to = to

    def __call__(self, kind: str, one: Value | float, other: Value | float | None = None) -> Value:
        one = self._value(one)
        if other is None:
            return call(self.to, kind, one)
        other = self._value(other)
        dtype = np.dtype(np.bool_) if kind == "EQUAL" else one.dtype
        shape = np.broadcast_shapes(one.shape, other.shape)
        return pair(self.to, kind, one, other, shape=shape, dtype=dtype)

    def _value(self, what: Value | float) -> Value:
        return what if isinstance(what, Value) else number(self.to, what)

    def log1p(self, x: Value) -> Value:
        """``log(1 + x)`` that keeps small ``x``; source: Kahan's _formula, as given by Goldberg."""
        one_more = self("ADD", x, 1.0)
        ratio = self("DIV", x, self("SUB", one_more, 1.0))
        logged = self("MUL", ratio, self("LOG", one_more))
        lost, huge = self("EQUAL", one_more, 1.0), self("EQUAL", one_more, np.inf)
        kept = select(self.to, lost, x, logged, x.shape)
        return select(self.to, huge, one_more, kept, x.shape)

    def other_leg(self, x: Value) -> Value:
        """``sqrt(1 - x * x)``."""
        return self("SQRT", self("MUL", self("SUB", 1.0, x), self("ADD", x, 1.0)))


def _tan(f: _Arithmetic, x: Value) -> Value:
    return f("DIV", f("SIN", x), f("COS", x))


def _asin(f: _Arithmetic, x: Value) -> Value:
    return f("ATAN2", x, f.other_leg(x))


def _acos(f: _Arithmetic, x: Value) -> Value:
    return f("ATAN2", f.other_leg(x), x)


def _atan(f: _Arithmetic, x: Value) -> Value:
    ones = casted(f.to, f("EQUAL", x, x), x.dtype)  # ATAN2 does not broadcast
    return f("ATAN2", x, ones)


def _cosh(f: _Arithmetic, x: Value) -> Value:
    return f("MUL", f("ADD", f("EXP", x), f("EXP", f("NEG", x))), 0.5)


def _sinh(f: _Arithmetic, x: Value) -> Value:
    return f("MUL", f("TANH", x), _cosh(f, x))


def _asinh(f: _Arithmetic, x: Value) -> Value:
    size = f("ABS", x)
    inverse = f("DIV", 1.0, size)
    root = f("SQRT", f("ADD", f("MUL", inverse, inverse), 1.0))
    beyond = f("DIV", size, f("ADD", inverse, root))
    return f("MUL", f("SIGN", x), f.log1p(f("ADD", size, beyond)))


def _acosh(f: _Arithmetic, x: Value) -> Value:
    above = f("SUB", x, 1.0)
    root = f("MUL", f("SQRT", above), f("SQRT", f("ADD", x, 1.0)))
    return f.log1p(f("ADD", above, root))


def _atanh(f: _Arithmetic, x: Value) -> Value:
    ratio = f("DIV", f("MUL", x, 2.0), f("SUB", 1.0, x))
    return f("MUL", f.log1p(ratio), 0.5)


def _formula(write: Callable[[_Arithmetic, Value], Value]) -> Lowering:
    """An operator whose outcome is this formula of its operand."""

    def lower(node: Node, to: Builder) -> None:
        value = plain(to, to.value(node.input(0)))
        to.bind_value(node.outputs[0], write(_Arithmetic(to), value))

    return lower


OPERATORS: dict[str, Lowering] = {
    "Acos": _formula(_acos),
    "Acosh": _formula(_acosh),
    "Asin": _formula(_asin),
    "Asinh": _formula(_asinh),
    "Atan": _formula(_atan),
    "Atanh": _formula(_atanh),
    "Cos": _formula(lambda f, x: f("COS", x)),
    "Cosh": _formula(_cosh),
    "Sin": _formula(lambda f, x: f("SIN", x)),
    "Sinh": _formula(_sinh),
    "Tan": _formula(_tan),
}
