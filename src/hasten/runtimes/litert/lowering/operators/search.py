"""Where the largest and smallest elements are: ArgMax, ArgMin, TopK."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ai_edge_litert.schema_py_generated import TensorType

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import casted, pair, plain
from hasten.runtimes.litert.lowering.operators.reduction import without
from hasten.runtimes.litert.lowering.operators.shape import movable
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.operators.unary import call, number
from hasten.runtimes.litert.lowering.program import Tensor

__all__ = ["OPERATORS"]


def _arg(kind: str) -> Lowering:
    """The first index of the extreme along one axis, or the last where the node asks for it."""

    def lower(node: Node, to: Builder) -> None:
        value = movable(to, to.value(node.input(0)))
        if value.dtype == np.int16:
            value = casted(to, plain(to, value), np.int32)
        axis = node.attribute("axis", 0) % value.rank
        last = bool(node.attribute("select_last_index", 0))
        at = layout.stored_axis(value.perm, axis)
        tensor = value.tensor
        if last:
            tensor = to.emit("REVERSE_V2", [tensor, to.sizes(at)], tensor.shape, like=tensor)
        shape = (*tensor.shape[:at], *tensor.shape[at + 1 :])
        where = to.constant(np.array(at, np.int32))
        made = to.emit(kind, [tensor, where], shape, np.int64, outputType=TensorType.INT64)
        found = Value(made, without(value.perm, [at]), np.dtype(np.int64))
        if last:
            most = number(to, value.shape[axis] - 1, found.dtype)
            found = pair(to, "SUB", most, found, shape=found.shape)
        if node.attribute("keepdims", 1):
            kept = (*found.tensor.shape[:at], 1, *found.tensor.shape[at:])
            found = Value(to.reshaped(found.tensor, kept), value.perm, found.dtype)
        to.bind_value(node.outputs[0], found)

    return lower


def _top_k(node: Node, to: Builder) -> None:
    """TOPK_V2 over the last stored axis; the smallest are the largest with the order turned."""
    value = movable(to, to.value(node.input(0)))
    axis = node.attribute("axis", -1) % value.rank
    smallest = not node.attribute("largest", 1)
    if smallest:
        value = plain(to, value)
        dtype = value.dtype
        value = _turned(to, value if dtype == FLOAT else casted(to, value, _wide(dtype)))
    order = (*(one for one in value.perm if one != axis), axis)
    data = to.stored(value, order)
    shape = layout.apply(order, node.shape)
    found = replace(value, tensor=_output(to, data, shape), perm=order)
    indices = replace(found, tensor=_indices(to, shape), dtype=np.dtype(np.int32))
    count = to.constant(np.array(shape[-1], np.int32))
    to.emit_to("TOPK_V2", [data, count], [found.tensor, indices.tensor])
    if smallest:
        found = casted(to, _turned(to, found), node.dtype)
    outputs = [found, casted(to, indices, np.int64)]
    for name, output in zip(node.outputs, outputs, strict=True):
        if name:
            to.bind_value(name, output)


def _turned(to: Builder, value: Value) -> Value:
    """In the other order: ``-x``, or ``-1 - x`` for integers, where the lowest has no negative."""
    if value.dtype == FLOAT:
        return call(to, "NEG", value)
    return pair(to, "SUB", number(to, -1, value.dtype), value, shape=value.shape)


def _wide(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return dtype if dtype == np.int64 else np.dtype(np.int32)


def _output(to: Builder, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return Tensor(f"{to.source}/values", like.dtype, shape, quantization=like.quantization)


def _indices(to: Builder, shape: tuple[int, ...]) -> Tensor:
    return Tensor(f"{to.source}/indices", np.dtype(np.int32), shape)


OPERATORS: dict[str, Lowering] = {
    "ArgMax": _arg("ARG_MAX"),
    "ArgMin": _arg("ARG_MIN"),
    "TopK": _top_k,
}
