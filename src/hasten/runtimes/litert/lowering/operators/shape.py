"""Shapes and orders of axes: elements are moved or renamed, never computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import plain
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS", "expanded", "movable"]


def movable(to: Builder, value: Value) -> Value:
    """The value as it is stored, where its elements may go anywhere: one scale for all."""
    found = value.tensor.quantization
    return value if found is None or found.per_tensor else plain(to, value)


def _identity(node: Node, to: Builder) -> None:
    """The same value under another name."""
    to.bind_value(node.outputs[0], to.value(node.input(0)))


def _dropout(node: Node, to: Builder) -> None:
    """Outside training nothing is dropped, and the mask is true throughout."""
    training = to.require(node.input(2), "training mode") if node.input(2) else np.array(False)
    if training.item():
        raise Unsupported("drops elements at random, in training mode")
    value = to.value(node.input(0))
    to.bind_value(node.outputs[0], value)
    if len(node.outputs) > 1 and node.outputs[1]:
        to.bind(node.outputs[1], to.constant(np.ones(value.shape, node.specs[-1].dtype)))


def _reshape(node: Node, to: Builder) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: shape inference knows what comes out."""
    value = to.value(node.input(0))
    tensor = value.tensor
    if layout.moves_data(
        layout.transposition(value.perm, layout.identity(value.rank)), tensor.shape
    ):
        tensor = to.stored(value)
    if tensor.quantization is not None and not tensor.quantization.per_tensor:
        tensor = to.real(replace(value, tensor=tensor)).tensor
    made = to.reshaped(tensor, node.shape)
    to.bind(node.outputs[0], made, dtype=value.dtype)


def _transpose(node: Node, to: Builder) -> None:
    """Axes get other names; elements move when somebody needs them in order."""
    value = to.value(node.input(0))
    order = node.attribute("perm", list(reversed(range(value.rank))))
    perm = tuple(order.index(axis) for axis in value.perm)
    to.bind_value(node.outputs[0], replace(value, perm=perm))


def _concat(node: Node, to: Builder) -> None:
    """Along one axis, in the order that the first computed operand is stored in."""
    values = [to.value(name) for name in node.inputs]
    form = to.target(node.outputs[0], *values)
    if form is not None:
        values = [to.quantized(value, form.quantization, form.dtype) for value in values]
    elif not _alike(values):
        values = [plain(to, value) for value in values]
    perm = next((value.perm for value in values if not value.constant), values[0].perm)
    made = to.emit(
        "CONCATENATION",
        [to.stored(value, perm) for value in values],
        layout.apply(perm, node.shape),
        like=values[0].tensor,
        axis=layout.stored_axis(perm, node.attribute("axis", 1)),
    )
    to.bind(node.outputs[0], made, perm, node.dtype)


def _alike(values: list[Value]) -> bool:
    """Whether all are stored in integers of one scale."""
    first = values[0].tensor
    found = first.quantization
    return found is not None and all(
        value.activation_like(first.dtype) and found.same(value.tensor.quantization)
        for value in values
    )


def _expand(node: Node, to: Builder) -> None:
    """To the shape that both, the operand's and the one asked for, broadcast to."""
    value = movable(to, to.value(node.input(0)))
    to.bind_value(node.outputs[0], expanded(to, value, node.shape))


def expanded(to: Builder, value: Value, shape: tuple[int, ...]) -> Value:
    """The value, broadcast. With TILE no shape is written into the file: a batch stays free."""
    value = _widened(to, value, len(shape))
    repeats = [want if have == 1 else 1 for want, have in zip(shape, value.shape, strict=True)]
    return _tiled(to, value, repeats)


def _widened(to: Builder, value: Value, rank: int) -> Value:
    """The value with axes of size 1 before its own, up to this rank."""
    more = rank - value.rank
    if not more:
        return value
    tensor = to.reshaped(value.tensor, (*(1,) * more, *value.tensor.shape))
    perm = (*range(more), *(axis + more for axis in value.perm))
    return Value(tensor, perm, value.dtype)


def _tile(node: Node, to: Builder) -> None:
    """Each axis as often as the second input says."""
    repeats = to.require(node.input(1), "list of repeats").tolist()
    to.bind_value(node.outputs[0], _tiled(to, movable(to, to.value(node.input(0))), repeats))


def _tiled(to: Builder, value: Value, repeats: list[int]) -> Value:
    """The value, repeated along each of ONNX's axes."""
    if all(times == 1 for times in repeats):
        return value
    stored = layout.apply(value.perm, repeats)
    shape = [size * times for size, times in zip(value.tensor.shape, stored, strict=True)]
    made = to.emit("TILE", [value.tensor, to.sizes(*stored)], shape, like=value.tensor)
    return replace(value, tensor=made)


OPERATORS: dict[str, Lowering] = {
    "Concat": _concat,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _reshape,
    "Identity": _identity,
    "Reshape": _reshape,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
