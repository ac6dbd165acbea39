"""Versions of builtin operators: what they are, and that the interpreter knows each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from hasten.runtimes.litert.lowering.program import Operator, Quantization, Tensor
from hasten.runtimes.litert.lowering.versions import RULES, version_of
from tflite_models import add_model, packed

PAIRS = sorted({(kind, version) for kind, rules in RULES.items() for _, version in rules})


def tensor(
    dtype: Any = np.float32, shape: tuple[int, ...] = (1, 4), scale: list[float] | None = None
) -> Tensor:
    made = Tensor("t", np.dtype(dtype), shape)
    if scale is not None:
        points = np.zeros(len(scale), np.int64)
        made.quantization = Quantization(np.array(scale, np.float32), points)
    return made


def operator(kind: str, *inputs: Tensor, out: Tensor | None = None, **options: Any) -> Operator:
    return Operator(kind, list(inputs), [out or inputs[0]], options)


def with_codes(codes: list[tuple[str, int]]) -> bytes:
    """A model of one addition that claims to need these operators too."""
    model = schema.ModelT.InitFromPackedBuf(add_model(), 0)
    for kind, version in codes:
        made = schema.OperatorCodeT()
        made.builtinCode = getattr(schema.BuiltinOperator, kind)
        made.deprecatedBuiltinCode = min(made.builtinCode, 127)
        made.version = version
        model.operatorCodes.append(made)
    return packed(model)


@pytest.mark.parametrize(("kind", "version"), PAIRS)
def test_the_interpreter_registers_each_version_that_may_be_written(
    kind: str, version: int
) -> None:
    Interpreter(model_content=with_codes([(kind, version)])).allocate_tensors()


def test_a_version_that_is_not_registered_would_be_noticed() -> None:
    with pytest.raises(ValueError, match="Didn't find op for builtin opcode 'ADD'"):
        Interpreter(model_content=with_codes([("ADD", 99)]))


INT8 = tensor(np.int8, (1, 4), [0.5])
IMAGE = tensor(np.int8, (1, 4, 4, 8), [0.5])
FLOAT_IMAGE = tensor(np.float32, (1, 4, 4, 8))
KERNEL = tensor(np.int8, (2, 1, 1, 8), [0.5, 0.25])


@pytest.mark.parametrize(
    ("given", "version"),
    [
        (operator("ADD", tensor(), tensor()), 1),
        (operator("ADD", INT8, INT8), 2),
        (operator("ADD", tensor(np.int64), tensor(np.int64)), 4),
        (operator("CONV_2D", IMAGE, KERNEL), 3),
        (operator("CONV_2D", FLOAT_IMAGE, tensor(np.float32, (2, 1, 1, 8))), 1),
        (operator("CONV_2D", FLOAT_IMAGE, KERNEL), 5),
        (operator("CONV_2D", FLOAT_IMAGE, tensor(np.float32, (2, 1, 1, 4))), 6),
        (operator("DEPTHWISE_CONV_2D", FLOAT_IMAGE, FLOAT_IMAGE, dilationWFactor=1), 1),
        (operator("DEPTHWISE_CONV_2D", FLOAT_IMAGE, FLOAT_IMAGE, dilationWFactor=2), 2),
        (operator("FULLY_CONNECTED", tensor(), tensor(), tensor()), 1),
        (operator("FULLY_CONNECTED", INT8, INT8, tensor(np.int32)), 4),
        (operator("FULLY_CONNECTED", tensor(), tensor()), 6),
        (operator("TRANSPOSE", tensor(shape=(1, 2, 3, 4, 5)), tensor(np.int32)), 4),
        (operator("MUL", INT8, INT8, out=tensor(np.int8, (1, 4), [0.2])), 3),
        (operator("MUL", INT8, INT8, out=tensor(np.int8, (1, 4), [0.3])), 2),
        (operator("SPLIT", tensor(np.int32), INT8), 2),
        (operator("QUANTIZE", tensor(), out=INT8), 1),
        (operator("BROADCAST_TO", tensor(), tensor(np.int32)), 2),
        (operator("RESIZE_BILINEAR", FLOAT_IMAGE, tensor(np.int32), halfPixelCenters=True), 3),
        (operator("RESHAPE", INT8, tensor(np.int32)), 1),
    ],
)
def test_the_version_is_the_lowest_that_has_what_is_used(given: Operator, version: int) -> None:
    assert version_of(given) == version
