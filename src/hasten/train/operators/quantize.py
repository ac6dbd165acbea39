"""Quantized values as the graph has them: exact, and without a gradient through the rounding."""

from __future__ import annotations

import torch

from hasten.train.operators.selection import torch_dtypes
from hasten.train.operators.table import Node, Operator, Refusal

__all__ = ["OPERATORS", "REFUSALS"]


def _quantize(
    node: Node, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
) -> torch.Tensor:
    dtype = zero_point.dtype if zero_point is not None else _output_dtype(node)
    limits = torch.iinfo(dtype)
    scaled = torch.round(x / _along(node, scale, x))
    if zero_point is not None:
        scaled = scaled + _along(node, zero_point, x).to(x.device, x.dtype)
    return scaled.clamp(limits.min, limits.max).to(dtype)


def _dequantize(
    node: Node, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
) -> torch.Tensor:
    # Integer constants stay on the CPU, and scales per channel are where the module is.
    value = x.to(scale.device if scale.ndim else x.device, torch.int32)
    if zero_point is not None:
        value = value - _along(node, zero_point, x).to(value.device, torch.int32)
    return value.to(scale.dtype) * _along(node, scale, x)


def _along(node: Node, parameter: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Shape a scale or zero point so that it lies along the node's axis."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    axis = node.integer("axis", 1) % x.ndim
    return parameter.reshape([-1 if at == axis else 1 for at in range(x.ndim)])


def _output_dtype(node: Node) -> torch.dtype:
    return torch_dtypes().get(node.integer("output_dtype"), torch.uint8)


def _refuse(node: Node) -> str:
    if node.integer("block_size"):
        return "it has scales per block"
    wanted = node.integer("output_dtype")
    known = wanted == 0 or wanted in torch_dtypes()
    return "" if known else "it has a dtype that torch does not have"


OPERATORS: dict[str, Operator] = {"DequantizeLinear": _dequantize, "QuantizeLinear": _quantize}

REFUSALS: dict[str, Refusal] = {"DequantizeLinear": _refuse, "QuantizeLinear": _refuse}
