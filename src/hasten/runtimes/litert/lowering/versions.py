"""Versions of builtin operators: which features a file asks of the runtime that opens it.

Source: ``tflite/tools/versioning/op_version.cc`` of LiteRT.
"""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering.program import Operator

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
    "DEPTHWISE_CONV_2D": 3,
    "CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "TRANSPOSE_CONV": 3,
}
_INT16 = {"DEPTHWISE_CONV_2D": 5, "CONV_2D": 4, "FULLY_CONNECTED": 7}


def version_of(operator: Operator) -> int:
    """The lowest version that has what this operator uses."""
    first = next((one for one in operator.inputs if one is not None), None)
    if first is None:
        return 1
    if first.dtype == np.int16 and first.quantization is not None:
        return _INT16.get(operator.kind, 1)
    if first.dtype == np.int8:
        return _INT8.get(operator.kind, 1)
    return 1
