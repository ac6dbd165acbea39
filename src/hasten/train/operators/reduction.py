"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from hasten.train.operators.table import Node, Operator, integers

__all__ = ["OPERATORS"]

_Reduce = Callable[[torch.Tensor, list[int], bool], torch.Tensor]


def _reduction(function: _Reduce) -> Operator:
    def compute(node: Node, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
        over = integers(axes) if axes is not None else node.integers("axes", [])
        if not over and node.integer("noop_with_empty_axes"):
            over = []
            return function(x.unsqueeze(0), [0], False)
        over = over or list(range(x.ndim))
        return function(x, over, bool(node.integer("keepdims", 1)))

    return compute


def _sum(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.sum(dim=axes, keepdim=keep, dtype=x.dtype)


def _mean(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.mean(dim=axes, keepdim=keep)


def _max(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.amax(dim=axes, keepdim=keep) if x.numel() else _of_none(x, axes, keep, -math.inf)


def _min(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.amin(dim=axes, keepdim=keep) if x.numel() else _of_none(x, axes, keep, math.inf)


def _of_none(x: torch.Tensor, axes: list[int], keep: bool, end: float) -> torch.Tensor:
    """Reduce no values: to that end of what their dtype holds."""
    limit: float = end
    if x.dtype == torch.bool:
        limit = end > 0
    elif not x.is_floating_point():
        limits = torch.iinfo(x.dtype)
        limit = limits.max if end > 0 else limits.min
    shape = x.sum(dim=axes, keepdim=keep).shape
    return torch.full(shape, limit, dtype=x.dtype, device=x.device)


def _l1(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.abs().sum(dim=axes, keepdim=keep)


def _l2(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    # Not the root of a sum: its gradient is no number where all values are 0, as int8 makes them.
    if not x.is_floating_point():
        return x.square().sum(dim=axes, keepdim=keep).sqrt()
    norm: torch.Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keep)
    return norm


def _sum_square(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.square().sum(dim=axes, keepdim=keep)


def _log_sum_exp(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return torch.logsumexp(x, dim=axes, keepdim=keep)


def _log_sum(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.sum(dim=axes, keepdim=keep).log()


def _product(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(dim=axis, keepdim=keep, dtype=x.dtype)
    return x


def _arg(function: Callable[..., torch.Tensor]) -> Operator:
    """Return the place of the largest or smallest: the first of equals, or the last."""

    def compute(node: Node, x: torch.Tensor) -> torch.Tensor:
        axis, keep = node.integer("axis"), bool(node.integer("keepdims", 1))
        if not node.integer("select_last_index"):
            return function(x, dim=axis, keepdim=keep)
        return x.shape[axis] - 1 - function(x.flip(axis), dim=axis, keepdim=keep)

    return compute


OPERATORS: dict[str, Operator] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "ReduceL1": _reduction(_l1),
    "ReduceL2": _reduction(_l2),
    "ReduceLogSum": _reduction(_log_sum),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceMax": _reduction(_max),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(_min),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(_sum_square),
}
