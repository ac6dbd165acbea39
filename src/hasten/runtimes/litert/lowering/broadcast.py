"""Operands of different shapes, in one order of axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.layout import Perm
from hasten.runtimes.litert.lowering.program import Tensor

__all__ = ["align"]


def align(
    to: Builder, values: Sequence[Value], shape: tuple[int, ...]
) -> tuple[list[Tensor], Perm]:
    """The operands as tensors that broadcast to ``shape`` (ONNX's order), and their order of axes.

    It is the order that the largest computed operand already has, so that only smaller ones move.
    """
    rank = len(shape)
    full = [value for value in values if not value.constant and value.rank == rank]
    perm = layout.identity(rank)
    if full:
        perm = max(full, key=lambda value: value.tensor.size).perm
    return [_aligned(to, value, perm) for value in values], perm


def _aligned(to: Builder, value: Value, perm: Perm) -> Tensor:
    rank = len(perm)
    if value.tensor.size == 1 and value.rank <= rank:
        return to.reshaped(value.tensor, (1,) * value.rank if value.constant else (1,) * rank)
    if value.rank == rank:
        return to.stored(value, perm)
    if value.perm == layout.identity(value.rank) and perm == layout.identity(rank):
        return value.tensor
    wide = (*(1,) * (rank - value.rank), *value.shape)
    tensor = to.stored(value)
    if tensor.quantization is not None and not tensor.quantization.per_tensor:
        tensor = to.real(Value(tensor, layout.identity(value.rank), value.dtype)).tensor
    widened = to.reshaped(tensor, wide)
    made = Value(widened, layout.identity(rank), np.dtype(value.dtype))
    return to.stored(made, perm)
