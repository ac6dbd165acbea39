"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hasten.train.operators.table import Node, Operator, Refusal, integers

__all__ = ["OPERATORS", "REFUSALS"]

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
    return x.amax(dim=axes, keepdim=keep)


def _min(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.amin(dim=axes, keepdim=keep)


def _l1(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.abs().sum(dim=axes, keepdim=keep)


def _l2(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.square().sum(dim=axes, keepdim=keep).sqrt()


def _sum_square(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return x.square().sum(dim=axes, keepdim=keep)


def _log_sum_exp(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return torch.logsumexp(x, dim=axes, keepdim=keep)


def _arg(function: Callable[..., torch.Tensor]) -> Operator:
    def compute(node: Node, x: torch.Tensor) -> torch.Tensor:
        return function(x, dim=node.integer("axis"), keepdim=bool(node.integer("keepdims", 1)))

    return compute


def _refuse_last(node: Node) -> str:
    return "it selects the last of equals" if node.integer("select_last_index") else ""


OPERATORS: dict[str, Operator] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "ReduceL1": _reduction(_l1),
    "ReduceL2": _reduction(_l2),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ReduceMax": _reduction(_max),
    "ReduceMean": _reduction(_mean),
    "ReduceMin": _reduction(_min),
    "ReduceSum": _reduction(_sum),
    "ReduceSumSquare": _reduction(_sum_square),
}

REFUSALS: dict[str, Refusal] = {"ArgMax": _refuse_last, "ArgMin": _refuse_last}
