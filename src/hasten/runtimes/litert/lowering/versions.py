"""Versions of builtin operators: which features a file asks of the runtime that opens it.

Source: ``tflite/tools/versioning/op_version.cc`` of LiteRT.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hasten.runtimes.litert.lowering.program import Operator, Tensor

__all__ = ["version_of"]

#: What an operator's version is where it works on int8, and on int16.
_INT8 = {
    **dict.fromkeys(
        (
            *("ADD", "ARG_MAX", "AVERAGE_POOL_2D", "CONCATENATION", "DEPTH_TO_SPACE", "DEQUANTIZE"),
            *("EQUAL", "GATHER", "LEAKY_RELU", "LOGISTIC", "LOG_SOFTMAX", "MAXIMUM", "MAX_POOL_2D"),
            *("MEAN", "MINIMUM", "MUL", "PAD", "PADV2", "QUANTIZE", "REDUCE_MAX", "REDUCE_MIN"),
            *("RELU", "RELU6", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SOFTMAX"),
            *("SPACE_TO_DEPTH", "SPLIT", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE"),
        ),
        2,
    ),
    "BATCH_MATMUL": 2,
    "DEPTHWISE_CONV_2D": 3,
    "CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "GELU": 2,
    "TRANSPOSE_CONV": 3,
}
_INT16 = {
    "AVERAGE_POOL_2D": 3,
    "CONV_2D": 4,
    "DEPTHWISE_CONV_2D": 5,
    "FULLY_CONNECTED": 7,
    "MAX_POOL_2D": 3,
}

#: Where an operator's data is not its first input.
_DATA = {"SPLIT": 1, "TRANSPOSE_CONV": 2}

#: What an operator's options or further inputs ask for, whatever its dtype, and the version then.
_FEATURES: dict[str, tuple[Callable[[Operator], bool], int]] = {
    "CONV_2D": (lambda one: _channels(one.inputs[0]) != _channels(one.inputs[1]), 6),
    "DEPTHWISE_CONV_2D": (lambda one: max(_of(one, "dilation")) > 1, 2),
    "FULLY_CONNECTED": (lambda one: any(_of(one, "keepNumDims")), 5),
    "RESIZE_BILINEAR": (lambda one: any(_of(one, "half")), 3),
    "RESIZE_NEAREST_NEIGHBOR": (lambda one: any(_of(one, "half") + _of(one, "align")), 3),
    "TRANSPOSE_CONV": (lambda one: len(one.inputs) > 3, 3),
}


def _of(operator: Operator, prefix: str) -> list[int]:
    return [value for name, value in operator.options.items() if name.startswith(prefix)]


def _channels(tensor: Tensor | None) -> int:
    return tensor.shape[-1] if tensor is not None else 0


def version_of(operator: Operator) -> int:
    """The lowest version that has what this operator uses."""
    data = operator.inputs[_DATA.get(operator.kind, 0)] if operator.inputs else None
    if data is None:
        return 1
    version = 1
    if data.dtype == np.int16 and data.quantization is not None:
        version = _INT16.get(operator.kind, 1)
    elif data.dtype == np.int8:
        version = _INT8.get(operator.kind, 1)
    used = _FEATURES.get(operator.kind)
    return max(version, used[1] if used is not None and used[0](operator) else 1)
