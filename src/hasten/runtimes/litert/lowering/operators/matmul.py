"""Matrix products: FULLY_CONNECTED where the second operand is constant, else BATCH_MATMUL."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.convolution import bias, bias_is_exact
from hasten.runtimes.litert.lowering.operators.elementwise import pair
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.quantization import Target
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def _gemm(node: Node, to: Builder) -> None:
    """``alpha * A' * B' + beta * C``; the common form is one FULLY_CONNECTED."""
    one, other = to.value(node.input(0)), to.value(node.input(1))
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if node.attribute("transA", 0):
        one = _flipped(one)
    rows = other if node.attribute("transB", 0) else _flipped(other)
    third = to.value(node.input(2)) if node.input(2) else None
    per_output = third is None or (third.constant and _is_row(third, node.shape[1]))
    if other.constant and alpha == 1.0 and beta == 1.0 and per_output:
        _fully_connected(node, to, one, rows, with_bias=True)
        return
    one, other = to.real(one), to.real(_flipped(rows))
    made = _product(to, one, other, node.shape)
    for factor, value in ((alpha, made), (beta, third)):
        if value is not None and factor != 1.0:
            scaled = pair(to, "MUL", to.real(value), _number(to, factor), shape=value.shape)
            made, third = (scaled, third) if value is made else (made, scaled)
    if third is not None:
        made = pair(to, "ADD", made, to.real(third), shape=node.shape)
    to.bind_value(node.outputs[0], made)


def _matmul(node: Node, to: Builder) -> None:
    """Products of matrices, or of stacks of them."""
    one, other = to.value(node.input(0)), to.value(node.input(1))
    if one.dtype != FLOAT:
        raise Unsupported(f"multiplies matrices of {one.dtype}")
    if other.constant and other.rank == 2 and one.rank >= 2:
        _fully_connected(node, to, one, _flipped(other), with_bias=False)
        return
    form = to.target(node.outputs[0], one, other)
    if form is None or one.rank < 2 or other.rank < 2:
        one, other, form = to.real(one), to.real(other), None
    to.bind_value(node.outputs[0], _product(to, one, other, node.shape, form))


def _fully_connected(node: Node, to: Builder, one: Value, rows: Value, *, with_bias: bool) -> None:
    """``rows`` is the second matrix with its rows and columns exchanged: ``[out, in]``."""
    form = to.target(node.outputs[0], one)
    tensor = to.stored(rows)
    found = tensor.quantization
    usable = (
        found is not None
        and not np.any(found.zero_point)
        and tensor.dtype == np.int8
        and (found.per_tensor or found.axis == 0)
        and (not with_bias or bias_is_exact(node, to))
    )
    if form is None or not usable:
        form, one = None, to.real(one)
        tensor = to.stored(to.real(Value(tensor, layout.identity(2), rows.dtype)))
    data = to.stored(one)
    out, inner = tensor.shape
    flat = to.reshaped(data, (data.size // inner, inner)) if one.rank > 2 else data
    third = bias(node, to, flat, tensor, out) if with_bias else None
    made = to.emit(
        "FULLY_CONNECTED",
        [flat, tensor, third],
        (flat.shape[0], out),
        FLOAT if form is None else form.dtype,
        quantization=None if form is None else form.quantization,
    )
    to.bind(node.outputs[0], to.reshaped(made, node.shape))


def _product(
    to: Builder, one: Value, other: Value, shape: tuple[int, ...], form: Target | None = None
) -> Value:
    """BATCH_MATMUL of two operands; vectors become matrices and back."""
    left, right = one, other
    if left.rank == 1:
        left = _reshaped(to, left, (1, *left.shape))
    if right.rank == 1:
        right = _reshaped(to, right, (*right.shape, 1))
    first, adj_x = _matrix(to, left)
    second, adj_y = _matrix(to, right)
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    made = to.emit(
        "BATCH_MATMUL",
        [first, second],
        (*batch, left.shape[-2], right.shape[-1]),
        FLOAT if form is None else form.dtype,
        quantization=None if form is None else form.quantization,
        adjX=adj_x,
        adjY=adj_y,
    )
    return Value(to.reshaped(made, shape), layout.identity(len(shape)), FLOAT)


def _matrix(to: Builder, value: Value) -> tuple[Tensor, bool]:
    """The operand's tensor, and whether its matrices are stored transposed."""
    rank = value.rank
    turned = (*range(rank - 2), rank - 1, rank - 2)
    if value.perm == turned:
        return value.tensor, True
    return to.stored(value), False


def _flipped(value: Value) -> Value:
    """The matrix transposed: the same elements, under other names of axes."""
    return replace(value, perm=tuple(1 - axis for axis in value.perm))


def _is_row(value: Value, size: int) -> bool:
    return value.shape in {(size,), (1, size)}


def _reshaped(to: Builder, value: Value, shape: tuple[int, ...]) -> Value:
    tensor = to.reshaped(to.stored(value), shape)
    return Value(tensor, layout.identity(len(shape)), value.dtype)


def _number(to: Builder, number: float) -> Value:
    return Value(to.constant(np.array(number, np.float32)), (), FLOAT)


OPERATORS: dict[str, Lowering] = {"Gemm": _gemm, "MatMul": _matmul}
