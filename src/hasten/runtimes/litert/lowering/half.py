"""Weights in half the bytes: float32 constants stored as float16, each behind a DEQUANTIZE.

XNNPACK takes the DEQUANTIZE of a constant for what it is, a way to store weights, and unpacks it
once when it compiles; the builtin kernels run it once, before the first run. Source: "Post-training
float16 quantization" in LiteRT's documentation.
"""

from __future__ import annotations

import numpy as np

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering.program import Operator, Program, Tensor

__all__ = ["halve_weights"]

#: Smaller constants are biases and scales, whose rounding costs more than their bytes.
_MIN_SIZE = 512
_LARGEST = float(np.finfo(np.float16).max)


def halve_weights(program: Program) -> Program:
    """Return the program with its large float32 constants as float16.

    Raises RefusedError where there is none, or where one is beyond the range of float16.
    """
    halves: dict[int, Operator] = {}
    operators: list[Operator] = []
    for operator in program.operators:
        inputs: list[Tensor | None] = []
        for tensor in operator.inputs:
            if tensor is None or not _is_large(tensor):
                inputs.append(tensor)
                continue
            if id(tensor) not in halves:
                halves[id(tensor)] = _half(tensor, operator.source)
                operators.append(halves[id(tensor)])
            inputs.append(halves[id(tensor)].outputs[0])
        made = Operator(operator.kind, inputs, operator.outputs, operator.options, operator.source)
        operators.append(made)
    if not halves:
        raise RefusedError(f"no float32 weights of {_MIN_SIZE} elements or more to halve")
    return Program(program.inputs, program.outputs, operators, program.notes)


def _is_large(tensor: Tensor) -> bool:
    return (
        tensor.data is not None
        and tensor.dtype == np.float32
        and tensor.quantization is None
        and tensor.size >= _MIN_SIZE
    )


def _half(tensor: Tensor, source: str) -> Operator:
    largest = float(np.abs(tensor.elements).max())
    if not largest <= _LARGEST:
        raise RefusedError(
            f"weights {tensor.name} of node {source} reach {largest:g}, float16 {_LARGEST:g}"
        )
    data = tensor.elements.astype(np.float16)
    stored = Tensor(tensor.name, data.dtype, tensor.shape, data)
    real = Tensor(f"{tensor.name}/float32", tensor.dtype, tensor.shape)
    return Operator("DEQUANTIZE", [stored], [real], {}, source)
