"""Arithmetic, comparison and logic, value by value with broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch

from hasten.train.operators.table import Node, Operator, together

__all__ = ["OPERATORS"]

_Binary = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Operator:
    def compute(node: Node, x: torch.Tensor) -> torch.Tensor:
        del node
        return function(x)

    return compute


def _binary(function: _Binary) -> Operator:
    def compute(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        del node
        return function(*together(a, b))

    return compute


def _variadic(function: _Binary) -> Operator:
    def compute(node: Node, *values: torch.Tensor) -> torch.Tensor:
        del node
        return reduce(function, together(*values))

    return compute


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _power(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    # With a number as exponent torch knows the gradient of x squared at x = 0.
    if b.ndim == 0 and b.device.type == "cpu" and not b.requires_grad:
        exponent = b.item()
        return _root(a, exponent) if 0 < exponent < 1 else torch.pow(a, exponent).to(a.dtype)
    return torch.pow(a, b).to(a.dtype)


def _root(a: torch.Tensor, exponent: float = 0.5) -> torch.Tensor:
    """Return a root, whose gradient at 0 is taken for 0, as torch takes that of a norm.

    It has none there, and what is never quite 0 in a float network is rounded to it by int8.
    """
    positive = a > 0
    root = torch.where(positive, a, 1).pow(exponent)
    return torch.where(positive, root, a.detach().pow(exponent)).to(a.dtype)


def _modulo(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = together(a, b)
    return torch.fmod(a, b) if node.integer("fmod") else torch.remainder(a, b)


def _mean(node: Node, *values: torch.Tensor) -> torch.Tensor:
    del node
    return reduce(torch.add, together(*values)) / len(values)


def _where(node: Node, chosen: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    del node
    chosen, a, b = together(chosen, a, b)
    return torch.where(chosen, a, b)


def _is_infinite(node: Node, x: torch.Tensor) -> torch.Tensor:
    found = torch.zeros_like(x, dtype=torch.bool)
    if node.integer("detect_positive", 1):
        found = found | torch.isposinf(x)
    if node.integer("detect_negative", 1):
        found = found | torch.isneginf(x)
    return found


def _bit_shift(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = together(a, b)
    left = node.text("direction", "RIGHT") == "LEFT"
    return torch.bitwise_left_shift(a, b) if left else torch.bitwise_right_shift(a, b)


def _cast_like(node: Node, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    del node
    return x.to(like.dtype)


OPERATORS: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Acos": _unary(torch.acos),
    "Acosh": _unary(torch.acosh),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "Asin": _unary(torch.asin),
    "Asinh": _unary(torch.asinh),
    "Atan": _unary(torch.atan),
    "Atanh": _unary(torch.atanh),
    "BitShift": _bit_shift,
    "BitwiseAnd": _binary(torch.bitwise_and),
    "BitwiseNot": _unary(torch.bitwise_not),
    "BitwiseOr": _binary(torch.bitwise_or),
    "BitwiseXor": _binary(torch.bitwise_xor),
    "CastLike": _cast_like,
    "Ceil": _unary(torch.ceil),
    "Cos": _unary(torch.cos),
    "Cosh": _unary(torch.cosh),
    "Div": _binary(_divide),
    "Equal": _binary(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "IsInf": _is_infinite,
    "IsNaN": _unary(torch.isnan),
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Log": _unary(torch.log),
    "Max": _variadic(torch.maximum),
    "Mean": _mean,
    "Min": _variadic(torch.minimum),
    "Mod": _modulo,
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not),
    "Or": _binary(torch.logical_or),
    "Pow": _binary(_power),
    "Reciprocal": _unary(torch.reciprocal),
    "Round": _unary(torch.round),
    "Sign": _unary(torch.sign),
    "Sin": _unary(torch.sin),
    "Sinh": _unary(torch.sinh),
    "Sqrt": _unary(_root),
    "Sub": _binary(torch.sub),
    "Sum": _variadic(torch.add),
    "Tan": _unary(torch.tan),
    "Tanh": _unary(torch.tanh),
    "Where": _where,
    "Xor": _binary(torch.logical_xor),
}
