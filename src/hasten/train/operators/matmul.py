"""Matrix products."""

from __future__ import annotations

import torch

from hasten.train.operators.table import Node, Operator

__all__ = ["OPERATORS"]


def _matmul(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    del node
    return torch.matmul(a, b)


def _gemm(
    node: Node, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None
) -> torch.Tensor:
    a = a.T if node.integer("transA") else a
    b = b.T if node.integer("transB") else b
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if c is None:
        return a @ b if alpha == 1 else alpha * (a @ b)
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


def _einsum(node: Node, *operands: torch.Tensor) -> torch.Tensor:
    return torch.einsum(node.text("equation", ""), *operands)


OPERATORS: dict[str, Operator] = {"Einsum": _einsum, "Gemm": _gemm, "MatMul": _matmul}
