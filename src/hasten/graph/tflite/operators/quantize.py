"""QUANTIZE, DEQUANTIZE and CAST: how a value is stored."""

from __future__ import annotations

from onnx import helper

from hasten.graph.tflite.builder import FLOAT, Builder
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS"]


def _quantize(op: Operator, to: Builder) -> None:
    """A real value in integers, or integers with another scale: said by the output."""
    if not to.quantized(op.outputs[0]):
        raise Unsupported("writes integers without a scale")
    perm = to.perm(op.input(0))
    to.bind(op.outputs[0], to.read(op.input(0), perm), perm)


def _dequantize(op: Operator, to: Builder) -> None:
    """The real value of integers; weights in float16 are widened when they are read."""
    data = op.input(0)
    if to.is_constant(data) and to.dtype(data) == FLOAT:
        to.bind_constant(op.outputs[0], data)
        return
    perm = to.perm(data)
    name = to.read(data, perm)
    if not to.quantized(data):
        if to.dtype(data).kind != "f":
            raise Unsupported("reads integers without a scale")
        name = to.emit("Cast", [name], to=1)
    to.bind(op.outputs[0], name, perm)


def _cast(op: Operator, to: Builder) -> None:
    """Between numbers: truncated towards zero."""
    data, out = op.input(0), op.outputs[0]
    if to.quantized(data) or to.quantized(out):
        raise Unsupported("casts integers that have a scale")
    perm = to.perm(data)
    kind = helper.np_dtype_to_tensor_dtype(to.dtype(out))
    to.bind(out, to.emit("Cast", [to.read(data, perm)], to=kind), perm)


OPERATORS: dict[str, Importing] = {"CAST": _cast, "DEQUANTIZE": _dequantize, "QUANTIZE": _quantize}
