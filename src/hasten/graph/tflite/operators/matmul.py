"""Products of matrices: a layer with weights, and batches of two operands."""

from __future__ import annotations

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.operators.activation import activated
from hasten.graph.tflite.operators.convolution import bias
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS"]


def _fully_connected(op: Operator, to: Builder) -> None:
    """Weights are ``[out, in]``. Integers are one Gemm, which runtimes fuse with its bias."""
    data, weights, out = op.input(0), op.input(1), op.outputs[0]
    if op.option("WeightsFormat"):
        raise Unsupported("has shuffled weights")
    if to.rank(weights) != 2:
        raise Unsupported(f"has weights of {to.rank(weights)} axes")
    width = to.shape(weights)[1]
    wide = to.rank(out) > 2
    if wide and to.rank(data) == to.rank(out) and not to.quantized(out):
        made = to.emit("MatMul", [to.read(data), to.read(weights, (1, 0))])
        for name in bias(op, to, 2):
            made = to.emit("Add", [made, name])
        to.bind(out, activated(op, to, made))
        return
    flat = to.read(data)
    if to.rank(data) != 2 or to.shape(data)[1] != width:
        flat = to.requantized(to.emit("Reshape", [flat, to.longs(-1, width)]), data)
    made = to.emit("Gemm", [flat, to.read(weights), *bias(op, to, 2)], transB=1)
    made = activated(op, to, made)
    if to.rank(out) != 2:
        made = to.requantized(made, out)
        made = to.emit("Reshape", [made, to.longs(-1, *to.shape(out)[1:])])
    to.bind(out, made)


def _batch_matmul(op: Operator, to: Builder) -> None:
    """Either operand may be transposed: that is only another order of its axes."""
    names = []
    for at, flag in enumerate(("AdjX", "AdjY")):
        index = op.input(at)
        rank = to.rank(index)
        if rank < 2:
            raise Unsupported(f"multiplies {rank} axes")
        order = layout.identity(rank)
        if op.option(flag, default=False):
            order = (*order[:-2], order[-1], order[-2])
        names.append(to.read(index, order))
    to.bind(op.outputs[0], to.emit("MatMul", names))


OPERATORS: dict[str, Importing] = {
    "BATCH_MATMUL": _batch_matmul,
    "FULLY_CONNECTED": _fully_connected,
}
