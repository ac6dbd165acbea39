"""Versions of builtin operators: which features a file asks of the runtime that opens it.

Source: ``tflite/tools/versioning/op_version.cc`` of LiteRT, for the dtypes that the lowering emits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from hasten.runtimes.litert.lowering.program import Operator, Tensor

__all__ = ["RULES", "version_of"]

Condition: TypeAlias = Callable[[Operator], bool]

#: The conditions of one kind of operator, and the version each asks for: the first that holds.
Rules: TypeAlias = tuple[tuple[Condition, int], ...]


def _of(dtype: type[np.generic], at: int = 0) -> Condition:
    """Whether the input at this place is of this dtype."""

    def holds(operator: Operator) -> bool:
        found = _input(operator, at)
        return found is not None and found.dtype == dtype

    return holds


def _writes(dtype: type[np.generic]) -> Condition:
    return lambda operator: operator.outputs[0].dtype == dtype


def _over(rank: int) -> Condition:
    """Whether the first input has more axes than this."""
    return lambda operator: len(_first(operator).shape) > rank


def _option(name: str, *plain: object) -> Condition:
    """Whether an option is set to something that version 1 did not have."""
    return lambda operator: bool(operator.options.get(name)) and operator.options[name] not in plain


def _broadcasts_over(rank: int) -> Condition:
    def holds(operator: Operator) -> bool:
        shapes = [one.shape for one in operator.inputs if one is not None]
        return shapes[0] != shapes[1] and max(map(len, shapes)) > rank

    return holds


def _both(*conditions: Condition) -> Condition:
    return lambda operator: all(holds(operator) for holds in conditions)


def _plain(operator: Operator) -> bool:
    return _first(operator).quantization is None


def _per_channel(at: int) -> Condition:
    def holds(operator: Operator) -> bool:
        found = _input(operator, at)
        scales = None if found is None else found.quantization
        return scales is not None and not scales.per_tensor

    return holds


def _writes_per_channel(operator: Operator) -> bool:
    found = operator.outputs[0].quantization
    return found is not None and not found.per_tensor


def _grouped(operator: Operator) -> bool:
    """A convolution whose filters see some of the channels."""
    data, kernel = _input(operator, 0), _input(operator, 1)
    return data is not None and kernel is not None and data.shape[-1] != kernel.shape[-1]


def _without_bias(operator: Operator) -> bool:
    return len(operator.inputs) == 2


def _with_bias(at: int) -> Condition:
    return lambda operator: _input(operator, at) is not None


def _scales_up(operator: Operator) -> bool:
    """A product whose scale is no less than that of the output."""
    found = [one.quantization for one in (*operator.inputs, *operator.outputs) if one is not None]
    if len(found) != 3 or any(one is None or not one.per_tensor for one in found):
        return False
    one, other, out = (float(each.scale.item()) for each in found if each is not None)
    return one * other / out >= 1.0


def _first(operator: Operator) -> Tensor:
    return next(one for one in operator.inputs if one is not None)


def _input(operator: Operator, at: int) -> Tensor | None:
    return operator.inputs[at] if at < len(operator.inputs) else None


_INT8, _INT16 = _of(np.int8), _of(np.int16)
_UINT8, _BOOL = _of(np.uint8), _of(np.bool_)
_INT32, _INT64, _UINT32 = _of(np.int32), _of(np.int64), _of(np.uint32)

#: Float activations on weights in int8.
_HYBRID = _both(_of(np.float32), _of(np.int8, 1))
_PLAIN_INT16 = _both(_INT16, _plain)

_NARROW: Rules = ((_INT8, 2),)
_NARROW_AND_WIDE: Rules = ((_INT16, 3), (_INT8, 2))
_EITHER: Rules = ((_INT8, 2), (_INT16, 2))

_PADDING: Rules = ((_BOOL, 5), (_over(4), 4), (_INT16, 3), (_INT8, 2))
_EXTREME: Rules = ((_INT16, 4), (_broadcasts_over(4), 3), (_INT8, 2))
_BLOCKS: Rules = ((_INT16, 4), (lambda one: len(_first(one).shape) != 4, 3), (_INT8, 2))

_NARROW_KINDS = (
    *("DEPTH_TO_SPACE", "GREATER", "LESS_EQUAL", "LOG_SOFTMAX", "NOT_EQUAL", "SPACE_TO_DEPTH"),
    *("SPLIT_V", "SQUARED_DIFFERENCE", "SUM"),
)
_NARROW_AND_WIDE_KINDS = (
    *("AVERAGE_POOL_2D", "GREATER_EQUAL", "LESS", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MIRROR_PAD"),
    *("REDUCE_MAX", "REDUCE_MIN", "RELU6", "RSQRT", "SOFTMAX", "TANH"),
)

#: By kind; what is not here is at version 1. Where LiteRT's source asks for int16 weights of a
#: convolution, which no model has, int16 activations are meant.
RULES: dict[str, Rules] = {
    **dict.fromkeys(_NARROW_KINDS, _NARROW),
    **dict.fromkeys(_NARROW_AND_WIDE_KINDS, _NARROW_AND_WIDE),
    **dict.fromkeys(("EXP", "LOG", "REDUCE_PROD"), _EITHER),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), _EXTREME),
    **dict.fromkeys(("PAD", "PADV2"), _PADDING),
    **dict.fromkeys(("BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND"), _BLOCKS),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), ((_BOOL, 3), (_INT8, 2))),
    "ABS": ((_INT32, 5), (_PLAIN_INT16, 4), (_INT16, 3), (_INT8, 2), (_UINT8, 2)),
    "ADD": ((_PLAIN_INT16, 5), (_INT64, 4), (_INT16, 3), (_INT8, 2)),
    "BATCH_MATMUL": (
        (_INT16, 3),
        (_INT8, 2),
        (_both(_HYBRID, _option("asymmetricQuantizeInputs")), 4),
    ),
    "BROADCAST_TO": ((_INT8, 3), (_INT16, 3), (lambda _: True, 2)),
    "CAST": (
        (
            lambda one: (
                {_first(one).dtype.name, one.outputs[0].dtype.name} & {"float16", "float64"}
                != set()
            ),
            5,
        ),
        (_of(np.uint16), 4),
        (_writes(np.uint16), 4),
        (_INT8, 3),
        (_writes(np.int8), 3),
        (_UINT32, 2),
        (_writes(np.uint32), 2),
    ),
    "CONCATENATION": ((_UINT32, 4), (_INT16, 3), (_INT8, 2)),
    "CONV_2D": (
        (_grouped, 6),
        (_INT16, 4),
        (_INT8, 3),
        (_both(_HYBRID, _per_channel(1)), 5),
        (_HYBRID, 2),
    ),
    "DEPTHWISE_CONV_2D": (
        (_INT16, 5),
        (_both(_HYBRID, _per_channel(1)), 6),
        (_HYBRID, 4),
        (_INT8, 3),
        (_option("dilationWFactor", 1), 2),
        (_option("dilationHFactor", 1), 2),
    ),
    "DEQUANTIZE": (
        (_INT16, 3),
        (_of(np.float16), 3),
        (_both(_INT8, _per_channel(0)), 5),
        (_INT8, 2),
    ),
    "DIV": ((_broadcasts_over(4), 2),),
    "EQUAL": ((_INT16, 4), (_INT8, 2)),
    "FILL": (
        (_of(np.float16, 1), 4),
        (_of(np.int8, 1), 3),
        (_of(np.int16, 1), 3),
        (_of(np.bool_, 1), 2),
    ),
    "FLOOR_DIV": ((_INT16, 3), (_INT8, 3), (_of(np.float32), 2)),
    "FLOOR_MOD": _EITHER,
    "FULLY_CONNECTED": (
        (_both(_HYBRID, _per_channel(1)), 12),
        (_INT16, 7),
        (_without_bias, 6),
        (_option("keepNumDims"), 5),
        (_INT8, 4),
        (_both(_HYBRID, _option("asymmetricQuantizeInputs")), 9),
        (_HYBRID, 3),
    ),
    "GATHER": (
        (_of(np.int16, 1), 6),
        (_option("batchDims"), 5),
        (_INT16, 4),
        (_BOOL, 3),
        (_INT8, 2),
    ),
    "GATHER_ND": ((_BOOL, 5), (_of(np.int16, 1), 4), (_INT16, 3)),
    "GELU": ((_INT8, 2), (_UINT8, 2)),
    "L2_NORMALIZATION": ((_writes(np.int8), 2),),
    "LEAKY_RELU": ((_INT16, 2),),
    "MUL": (
        (_PLAIN_INT16, 7),
        (_UINT32, 7),
        (_INT64, 5),
        (_INT16, 4),
        (_scales_up, 3),
        (_INT8, 2),
    ),
    "PACK": ((_INT8, 2), (_INT16, 3), (_UINT32, 4)),
    "QUANTIZE": ((_writes_per_channel, 3), (_writes(np.int16), 2)),
    "RANGE": ((_INT64, 2),),
    "RELU": ((_INT16, 3), (_INT8, 2), (_UINT8, 2)),
    "RESIZE_BILINEAR": ((_INT16, 4), (_option("halfPixelCenters"), 3), (_INT8, 2)),
    "RESIZE_NEAREST_NEIGHBOR": (
        (_INT16, 4),
        (_option("halfPixelCenters"), 3),
        (_option("alignCorners"), 3),
        (_INT8, 2),
    ),
    "REVERSE_V2": ((_INT8, 3), (_BOOL, 2)),
    "SELECT": ((_over(4), 3), (_INT8, 2)),
    "SELECT_V2": ((_UINT32, 2),),
    "SIGN": ((_INT32, 2),),
    "SLICE": ((_UINT32, 6), (_over(4), 5), (_INT16, 4), (_INT8, 2)),
    "SPLIT": ((_of(np.int16, 1), 4), (_of(np.int32, 1), 3), (_of(np.int8, 1), 2)),
    "STRIDED_SLICE": (
        (_option("offset"), 8),
        (_UINT32, 7),
        (_option("ellipsisMask"), 6),
        (_option("newAxisMask"), 6),
        (_over(4), 4),
        (_BOOL, 3),
        (_INT8, 2),
    ),
    "SUB": ((_INT16, 5), (_INT64, 4), (_broadcasts_over(4), 3), (_INT8, 2)),
    "TILE": ((_INT8, 3),),
    "TOPK_V2": ((_INT16, 3), (_INT8, 2)),
    "TRANSPOSE": ((_over(5), 6), (_INT16, 5), (_over(4), 4), (_BOOL, 3), (_INT8, 2)),
    "TRANSPOSE_CONV": (
        (_option("fusedActivationFunction"), 4),
        (_with_bias(3), 3),
        (_of(np.int8, 1), 2),
    ),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (
        (_option("diagonalRecurrentTensors"), 4),
        (_both(_of(np.float32), _of(np.int8, 2), _option("asymmetricQuantizeInputs")), 3),
        (_both(_of(np.float32), _of(np.int8, 2)), 2),
    ),
    "UNPACK": ((_INT8, 2), (_UINT8, 2), (_BOOL, 3), (_INT16, 4)),
    "WHERE": ((_BOOL, 1), (lambda _: True, 2)),
}


def version_of(operator: Operator) -> int:
    """The lowest version that has what this operator uses."""
    if not any(one is not None for one in operator.inputs):
        return 1
    return next((version for holds, version in RULES.get(operator.kind, ()) if holds(operator)), 1)
