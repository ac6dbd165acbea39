"""Pooling over windows, and normalisation across channels."""

from __future__ import annotations

from typing import Any

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.operators.activation import activated
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported
from hasten.graph.tflite.windows import padding

__all__ = ["OPERATORS"]

_ORDER = layout.channels_second(4)


def _window(op: Operator, to: Builder) -> dict[str, Any]:
    if to.rank(op.input(0)) != len(_ORDER):
        raise Unsupported(f"reads {to.rank(op.input(0))} axes")
    kernel = [op.option("FilterHeight"), op.option("FilterWidth")]
    strides = [op.option("StrideH"), op.option("StrideW")]
    if min(kernel) < 1:
        raise Unsupported(f"has windows {kernel}")
    sizes = to.tensor(op.input(0)).declared[1:-1]
    pads = padding(op.option("Padding"), sizes, kernel, strides, (1, 1))
    return {"kernel_shape": kernel, "strides": strides, **pads}


def _pool(op_type: str) -> Importing:
    """The mean leaves out what is padded in both."""

    def build(op: Operator, to: Builder) -> None:
        window = _window(op, to)
        made = to.emit(op_type, [to.read(op.input(0), _ORDER)], **window)
        to.bind(op.outputs[0], activated(op, to, made), _ORDER)

    return build


def _l2_pool(op: Operator, to: Builder) -> None:
    """The root of the mean square."""
    window = _window(op, to)
    name = to.read(op.input(0), _ORDER)
    mean = to.emit("AveragePool", [to.emit("Mul", [name, name])], **window)
    to.bind(op.outputs[0], activated(op, to, to.emit("Sqrt", [mean])), _ORDER)


def _local_response_normalization(op: Operator, to: Builder) -> None:
    """ONNX divides its alpha by the number of channels in a window."""
    if to.rank(op.input(0)) != len(_ORDER):
        raise Unsupported(f"reads {to.rank(op.input(0))} axes")
    size = 2 * op.option("Radius") + 1
    if size < 1:
        raise Unsupported(f"has a radius of {op.option('Radius')}")
    made = to.emit(
        "LRN",
        [to.read(op.input(0), _ORDER)],
        size=size,
        alpha=op.option("Alpha") * size,
        beta=op.option("Beta"),
        bias=op.option("Bias"),
    )
    to.bind(op.outputs[0], made, _ORDER)


OPERATORS: dict[str, Importing] = {
    "AVERAGE_POOL_2D": _pool("AveragePool"),
    "L2_POOL_2D": _l2_pool,
    "LOCAL_RESPONSE_NORMALIZATION": _local_response_normalization,
    "MAX_POOL_2D": _pool("MaxPool"),
}
