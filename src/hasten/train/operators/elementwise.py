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
        return torch.pow(a, b.item()).to(a.dtype)
    return torch.pow(a, b).to(a.dtype)


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


def _cast_like(node: Node, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    del node
    return x.to(like.dtype)


OPERATORS: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "CastLike": _cast_like,
    "Ceil": _unary(torch.ceil),
    "Cos": _unary(torch.cos),
    "Div": _binary(_divide),
    "Equal": _binary(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
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
    "Sqrt": _unary(torch.sqrt),
    "Sub": _binary(torch.sub),
    "Sum": _variadic(torch.add),
    "Tanh": _unary(torch.tanh),
    "Where": _where,
    "Xor": _binary(torch.logical_xor),
}
