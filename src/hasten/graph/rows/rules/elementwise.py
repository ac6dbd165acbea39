"""Operators that compute each element from those at its place: rows stay where they are."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.graph.rows.node import Node, Undecided
from hasten.graph.rows.rules.rule import Rule, Shapes
from hasten.graph.rows.tensor import FIXED, Flow, Rows

__all__ = ["RULES", "broadcast"]

_UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitShift BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf
    Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal
    Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh
    ThresholdedRelu StringNormalizer RegexFullMatch
""".split()  # noqa: SIM905
_BROADCAST = """
    Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
    Mean Min Mod Mul Or PRelu Pow StringConcat Sub Sum Where Xor
""".split()  # noqa: SIM905


def broadcast(node: Node, made: Sequence[Shapes], inputs: Sequence[int]) -> Flow:
    """Rows of inputs that are broadcast to one shape: all must lie along one axis of it."""
    rank = len(made[0][0])
    found = set()
    for at in inputs:
        rows = node.rows(at)
        if rows is not None:
            found.add(Rows(rows.axis + rank - node.rank(at), rows.outer))
    if not found:
        return FIXED
    if len(found) > 1:
        return node.joined("meets rows along one axis with rows along another")
    return found.pop()


def _unary(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    if any(node.rows(at) for at in range(1, len(node.inputs))):
        raise Undecided("a limit or a scale of its own for each row")
    return node.rows(0) or FIXED


def _broadcast(node: Node, made: Sequence[Shapes]) -> Flow:
    return broadcast(node, made, range(len(node.inputs)))


def _first_of_two(node: Node, made: Sequence[Shapes]) -> Flow:
    """Of CastLike and its like the second input gives a type alone."""
    del made
    return node.rows(0) or FIXED


def _dropout(node: Node, made: Sequence[Shapes]) -> Flow:
    training = node.constant(2)
    if training is not None and training.any():
        raise Undecided("it draws numbers while training")
    return _first_of_two(node, made)


def _quantize(node: Node, made: Sequence[Shapes]) -> Flow:
    """Scales are of the whole tensor, of an axis, or of blocks along it; those of rows go along."""
    del made
    rows, scales = node.rows(0), node.rows(1) or node.rows(2)
    if scales is None:
        return rows or FIXED
    if rows is None:
        raise Undecided("scales of rows for what has none")
    rank = node.rank(0)
    per_axis = node.rank(1) == 1 and node.axis(rank, 1) == rows.axis and scales == Rows(0)
    blocked = node.rank(1) == rank and scales == rows
    if (per_axis and rows.outer == 1) or blocked:
        return rows
    raise Undecided("scales of rows along another axis")


RULES: dict[tuple[str, str], Rule] = {
    **{("", name): _unary for name in _UNARY},
    **{("", name): _broadcast for name in _BROADCAST},
    ("ai.onnx.ml", "Binarizer"): _unary,
    ("ai.onnx.ml", "LabelEncoder"): _unary,
    ("", "CastLike"): _first_of_two,
    ("", "Dropout"): _dropout,
    ("", "QuantizeLinear"): _quantize,
    ("", "DequantizeLinear"): _quantize,
}
