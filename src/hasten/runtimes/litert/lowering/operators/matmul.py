"""Matrix products: FULLY_CONNECTED where one operand is constant, else BATCH_MATMUL."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.composition import compute, ordered, reshaped
from hasten.runtimes.litert.lowering.layout import Perm
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.quantization import Target
from hasten.runtimes.litert.lowering.unsupported import Unsupported
from hasten.runtimes.litert.lowering.weights import bias, integer_form, weights_of

__all__ = ["OPERATORS", "fully_connected"]

#: BATCH_MATMUL's kernel counts this many axes.
_MAX_RANK = 5


def _gemm(node: Node, to: Builder) -> None:
    """``alpha * A' * B' + beta * C``; the common form is one FULLY_CONNECTED."""
    one, other = to.value(node.input(0)), weights_of(node, to)
    if one.dtype != FLOAT:
        raise Unsupported(f"multiplies matrices of {one.dtype}")
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    if node.attribute("transA", 0):
        one = _flipped(one)
    if node.attribute("transB", 0):
        other = _flipped(other)
    third = to.value(node.input(2)) if node.input(2) else None
    per_output = third is None or (third.constant and _is_row(third, node.shape[1]))
    if other.constant and alpha == 1.0 and beta == 1.0 and per_output:
        to.bind_value(node.outputs[0], _by_weights(node, to, one, _flipped(other)))
        return
    made = _product(to, to.real(one), to.real(other), node.shape)
    made = made if alpha == 1.0 else compute(to, "MUL", made, alpha)
    if third is not None:
        third = to.real(third)
        third = third if beta == 1.0 else compute(to, "MUL", third, beta)
        made = compute(to, "ADD", made, third)
    to.bind_value(node.outputs[0], made)


def _matmul(node: Node, to: Builder) -> None:
    """Products of matrices, or of stacks of them."""
    one, other = (_thinned(to, to.value(name)) for name in node.inputs)
    if one.dtype != FLOAT:
        raise Unsupported(f"multiplies matrices of {one.dtype}")
    if other.constant and other.rank == 2 and one.rank >= 2:
        made = _by_weights(node, to, one, _flipped(other))
    elif one.constant and one.rank == 2 and other.rank >= 2:
        made = _flipped(_by_weights(node, to, _flipped(other), one))
    else:
        form = to.target(node.outputs[0], one, other)
        if form is None or form.dtype != np.int8 or one.rank < 2 or other.rank < 2:
            one, other, form = to.real(one), to.real(other), None
        made = _product(to, one, other, node.shape, form)
    if made.shape != node.shape:
        made = reshaped(to, made, node.shape)
    to.bind_value(node.outputs[0], made)


def _thinned(to: Builder, value: Value) -> Value:
    """A constant without axes of size 1 before its matrix."""
    more = value.rank - 2
    if not value.constant or more <= 0 or any(size != 1 for size in value.shape[:more]):
        return value
    found = value.tensor.quantization
    if found is not None and not found.per_tensor:
        return value
    return reshaped(to, value, value.shape[more:])


def _by_weights(node: Node, to: Builder, one: Value, rows: Value) -> Value:
    """``one`` times the transpose of ``rows``, a constant ``[out, in]``, and the node's bias."""
    rows = ordered(to, rows)
    form = integer_form(node, to, one, rows)
    if form is None:
        one, rows = to.real(one), to.real(rows)
    data, kernel = ordered(to, one).tensor, rows.tensor
    third = bias(node, to, data, kernel, rows.shape[0]) if node.input(2) else None
    return fully_connected(to, data, kernel, third, form)


def fully_connected(
    to: Builder, data: Tensor, kernel: Tensor, offset: Tensor | None, form: Target | None = None
) -> Value:
    """Over the last axis, with those before it as they are; ``kernel`` is ``[out, in]``."""
    shape = (*data.shape[:-1], kernel.shape[0])
    made = to.emit(
        "FULLY_CONNECTED",
        [data, kernel, offset],
        shape,
        FLOAT if form is None else form.dtype,
        quantization=None if form is None else form.quantization,
        keepNumDims=len(shape) > 2,
    )
    return Value(made, layout.identity(len(shape)), FLOAT)


def _product(
    to: Builder, one: Value, other: Value, shape: tuple[int, ...], form: Target | None = None
) -> Value:
    """BATCH_MATMUL of two operands; vectors become matrices and back."""
    left = one if one.rank > 1 else reshaped(to, one, (1, *one.shape))
    right = other if other.rank > 1 else reshaped(to, other, (*other.shape, 1))
    if max(left.rank, right.rank) > _MAX_RANK:
        raise Unsupported(f"multiplies stacks of matrices with {max(left.rank, right.rank)} axes")
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
    if value.perm == _turned(value.rank):
        return value.tensor, True
    return to.stored(value), False


def _turned(rank: int) -> Perm:
    return (*range(rank - 2), rank - 1, rank - 2)


def _flipped(value: Value) -> Value:
    """The matrices transposed: the same elements, under other names of axes."""
    names = _turned(value.rank)
    return replace(value, perm=tuple(names[axis] for axis in value.perm))


def _is_row(value: Value, size: int) -> bool:
    return value.shape in {(size,), (1, size)} or value.tensor.size == 1


OPERATORS: dict[str, Lowering] = {"Gemm": _gemm, "MatMul": _matmul}
