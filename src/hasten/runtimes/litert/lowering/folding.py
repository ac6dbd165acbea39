"""Factors and offsets for each channel, behind a convolution or a product, as its own constants.

A batch normalization behind a convolution vanishes so, and an Add behind a MatMul becomes a bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasten.runtimes.litert.lowering.program import Operator, Tensor

__all__ = ["fold"]


@dataclass(frozen=True)
class _Constants:
    """Where an operator has its weights and its bias, and which axis of weights is the output's."""

    weights: int
    bias: int
    axis: int


_FOLDING = {
    "CONV_2D": _Constants(1, 2, 0),
    "CONV_3D": _Constants(1, 2, 4),
    "DEPTHWISE_CONV_2D": _Constants(1, 2, 3),
    "FULLY_CONNECTED": _Constants(1, 2, 0),
    "TRANSPOSE_CONV": _Constants(1, 3, 0),
}


def fold(before: Operator, after: Operator) -> bool:
    """Take ``after`` into the constants of ``before``, whose output nothing else reads.

    False, with nothing changed, where that cannot be.
    """
    where = _FOLDING.get(before.kind)
    have, row = before.outputs[0], _row(before.outputs[0], after)
    if where is None or row is None or have.quantization is not None:
        return False
    if before.options.get("fusedActivationFunction", 0) or have.dtype != np.float32:
        return False
    weights, bias = before.inputs[where.weights], _bias(before, where)
    if (
        weights is None
        or not _is_real(weights)
        or not _is_real(bias)
        or have.shape[-1] != bias.elements.size
    ):
        return False
    if after.kind == "MUL":
        along = [1] * len(weights.shape)
        along[where.axis] = -1
        _replace(before, where.weights, weights, weights.elements * row.reshape(along))
        _replace(before, where.bias, bias, bias.elements * row)
    else:
        _replace(before, where.bias, bias, bias.elements + (-row if after.kind == "SUB" else row))
    return True


def _row(have: Tensor, after: Operator) -> np.ndarray | None:
    """The constant that ``after`` applies to each channel (stored last) of its other operand."""
    if after.kind not in {"MUL", "ADD", "SUB"} or after.outputs[0].quantization is not None:
        return None
    first, second = after.inputs
    if after.kind != "SUB" and first is not None and first.data is not None:
        first, second = second, first
    if first is None or second is None or second.data is None or second.quantization is not None:
        return None
    size = have.shape[-1] if have.shape else 0
    # As many elements as the operand: nothing was repeated. The rest is one row, or one number.
    if np.prod(after.outputs[0].shape) != np.prod(have.shape) or second.dtype != np.float32:
        return None
    if second.size != 1 and (second.size != size or second.shape[-1] != size):
        return None
    return np.broadcast_to(second.data.reshape(-1), (size,))


def _bias(operator: Operator, where: _Constants) -> Tensor:
    given = operator.inputs[where.bias] if len(operator.inputs) > where.bias else None
    if given is not None:
        return given
    size = operator.outputs[0].shape[-1]
    zeros = np.zeros(size, np.float32)
    return Tensor(f"{operator.source}/bias", zeros.dtype, zeros.shape, zeros)


def _is_real(tensor: Tensor | None) -> bool:
    return (
        tensor is not None
        and tensor.data is not None
        and tensor.dtype == np.float32
        and tensor.quantization is None
    )


def _replace(operator: Operator, at: int, old: Tensor, data: np.ndarray) -> None:
    array = np.ascontiguousarray(data, np.float32)
    operator.inputs[at] = Tensor(old.name, array.dtype, array.shape, array)
