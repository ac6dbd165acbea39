"""Softmax and its relatives: over one axis, or over several as if they were one."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.composition import ordered, reshaped
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.activation import apply
from hasten.runtimes.litert.lowering.operators.table import Lowering

__all__ = ["OPERATORS"]


def _softmax(kind: str, **options: float) -> Lowering:
    """TFLite takes it over the last stored axis."""

    def lower(node: Node, to: Builder) -> None:
        value = _last(node, to)
        made = apply(to, kind, value, node, **options)
        to.bind_value(node.outputs[0], _restored(node, to, made))

    return lower


def _hardmax(node: Node, to: Builder) -> None:
    """ONE_HOT of the first place of the largest."""
    value = to.real(_last(node, to))
    tensor = value.tensor
    size = tensor.shape[-1]
    last = to.sizes(len(tensor.shape) - 1)
    places = to.emit("ARG_MAX", [tensor, last], tensor.shape[:-1], np.int32, outputType=_INT32)
    on, off = (to.constant(np.array(number, np.float32)) for number in (1.0, 0.0))
    depth = to.constant(np.array(size, np.int32))
    made = to.emit("ONE_HOT", [places, depth, on, off], tensor.shape, like=tensor, axis=-1)
    to.bind_value(node.outputs[0], _restored(node, to, Value(made, value.perm, value.dtype)))


#: TensorType.INT32 of schema.fbs.
_INT32 = 2


def _last(node: Node, to: Builder) -> Value:
    """The operand with the axis stored last; before opset 13 with all from the axis on as one."""
    value = to.value(node.input(0))
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1) % value.rank
    if node.opset < 13 and axis != value.rank - 1:
        rows = int(np.prod(value.shape[:axis], dtype=np.int64))
        return reshaped(to, value, (rows, value.tensor.size // max(rows, 1)))
    return ordered(to, value, (*(one for one in value.perm if one != axis), axis))


def _restored(node: Node, to: Builder, value: Value) -> Value:
    return value if value.shape == node.shape else reshaped(to, value, node.shape)


OPERATORS: dict[str, Lowering] = {
    "Hardmax": _hardmax,
    "LogSoftmax": _softmax("LOG_SOFTMAX"),
    "Softmax": _softmax("SOFTMAX", beta=1.0),
}
