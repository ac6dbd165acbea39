"""What the kernels take: dtypes and numbers of axes, where that is less than ONNX allows.

Source: the ``Prepare`` functions in ``tflite/kernels`` of LiteRT, and each line run with 2.1. An
operator beyond them fails when a file is opened; int8 without a scale ends the process in XNNPACK.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["TAKEN", "require_taken"]

#: What values of a graph may be; others have no kernels at all, or one or two.
TAKEN = frozenset(
    np.dtype(kind) for kind in ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")
)

#: Dtypes of operands without a scale.
_DTYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ADD", "MUL", "NEG", "SUB"), ("float32", "int32", "int64")),
    **dict.fromkeys(("ABS", "DIV", "POW", "SIGN"), ("float32", "int32")),
    **dict.fromkeys(("CUMSUM", "MEAN", "REDUCE_PROD", "SUM"), ("float32", "int32", "int64")),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), ("float32", "int32", "int8", "uint8", "bool")),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL"), ("float32", "int32", "int64", "bool")),
    **dict.fromkeys(
        ("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"), ("float32", "int32", "int64")
    ),
    **dict.fromkeys(("LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "REDUCE_ALL"), ("bool",)),
    **dict.fromkeys(("BITWISE_XOR", "RIGHT_SHIFT"), ("int8", "uint8", "int16", "int32")),
    **dict.fromkeys(("SPLIT", "SPLIT_V"), ("float32", "int8", "uint8", "int16", "int32", "int64")),
    **dict.fromkeys(
        ("BATCH_MATMUL", "CEIL", "COS", "EXP", "FLOOR", "LOG", "ROUND", "RSQRT", "SIN", "SQRT"),
        ("float32",),
    ),
    "FLOOR_MOD": ("float32", "int32", "int64"),
    "ONE_HOT": ("float32", "int8", "uint8", "int32", "int64", "bool"),
    "REDUCE_ANY": ("bool",),
    "SCATTER_ND": ("float32", "int8", "uint8", "int32", "int64", "bool"),
    "SQUARE": ("float32",),
}

#: Which input is the operand, where it is not the first.
_OPERAND = {"ONE_HOT": 2, "SCATTER_ND": 1, "SELECT_V2": 1, "SPLIT": 1}

#: Most axes of an operand.
_AXES = {
    **dict.fromkeys(("PAD", "PADV2"), 5),
    **dict.fromkeys(("CONCATENATION", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "SPLIT", "SUM"), 6),
}
_MOST_AXES = 8


def require_taken(kind: str, inputs: Sequence[Tensor | None]) -> None:
    """Raise Unsupported where the kernel does not take this operand."""
    at = _OPERAND.get(kind, 0)
    operand = inputs[at] if at < len(inputs) else None
    if operand is None:
        return
    most = _AXES.get(kind, _MOST_AXES)
    if len(operand.shape) > most and kind != "RESHAPE":
        raise Unsupported(f"{kind} takes up to {most} axes, not {len(operand.shape)}")
    known = _DTYPES.get(kind)
    if known is not None and operand.quantization is None and operand.dtype.name not in known:
        raise Unsupported(f"{kind} takes {', '.join(known)}, not {operand.dtype}")
