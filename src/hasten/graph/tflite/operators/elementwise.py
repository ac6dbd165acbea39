"""Arithmetic, comparisons, logic and choice: element by element, with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.layout import Perm
from hasten.graph.tflite.operators.activation import activated
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS"]


def _aligned(op: Operator, to: Builder, inputs: Sequence[int]) -> tuple[list[str], Perm]:
    """Operands in one order of axes: that of the largest one that is computed."""
    rank = to.rank(op.outputs[0])
    full = [at for at in inputs if to.rank(at) == rank and not to.is_constant(at)]
    perm = layout.identity(rank)
    if full:
        perm = to.perm(max(full, key=lambda at: to.tensor(at).size))
    return [_operand(to, at, perm) for at in inputs], perm


def _operand(to: Builder, index: int, perm: Perm) -> str:
    tensor = to.tensor(index)
    if tensor.rank > len(perm):
        raise Unsupported(f"reads {tensor.name} of a higher rank than it writes")
    plain = perm == layout.identity(len(perm))
    if tensor.data is not None and (tensor.size == 1 or plain):
        return to.read(index)
    return to.read(index, perm, len(perm))


def _binary(op_type: str, *, negated: bool = False) -> Importing:
    """A node of two operands, with the activation behind it if any."""

    def build(op: Operator, to: Builder) -> None:
        names, perm = _aligned(op, to, op.inputs[:2])
        made = to.emit(op_type, names)
        if negated:
            made = to.emit("Not", [made])
        elif op.kind in _FUSING:
            made = activated(op, to, made)
        to.bind(op.outputs[0], made, perm)

    return build


_FUSING = frozenset({"ADD", "SUB", "MUL", "DIV"})


def _add_n(op: Operator, to: Builder) -> None:
    """The sum of any number of operands."""
    names, perm = _aligned(op, to, op.inputs)
    made = names[0]
    for name in names[1:]:
        made = to.emit("Add", [made, name])
    to.bind(op.outputs[0], made, perm)


def _squared_difference(op: Operator, to: Builder) -> None:
    """The square of what two operands differ by."""
    names, perm = _aligned(op, to, op.inputs[:2])
    difference = to.emit("Sub", names)
    to.bind(op.outputs[0], to.emit("Mul", [difference, difference]), perm)


def _floor_div(op: Operator, to: Builder) -> None:
    """Division that rounds down, of negative numbers too; ONNX rounds integers towards zero."""
    (one, other), perm = _aligned(op, to, op.inputs[:2])
    if to.dtype(op.outputs[0]).kind == "f":
        made = to.emit("Floor", [to.emit("Div", [one, other])])
    else:
        whole = to.emit("Sub", [one, to.emit("Mod", [one, other])])
        made = to.emit("Div", [whole, other])
    to.bind(op.outputs[0], made, perm)


def _floor_mod(op: Operator, to: Builder) -> None:
    """What is left has the sign of the divisor; ONNX's Mod of floats has that of the dividend."""
    (one, other), perm = _aligned(op, to, op.inputs[:2])
    dtype = to.dtype(op.outputs[0])
    if dtype.kind != "f":
        to.bind(op.outputs[0], to.emit("Mod", [one, other]), perm)
        return
    left = to.emit("Mod", [one, other], fmod=1)
    zero = to.number(0, dtype)
    signs = [to.emit("Less", [name, zero]) for name in (left, other)]
    some = to.emit("Not", [to.emit("Equal", [left, zero])])
    off = to.emit("And", [to.emit("Xor", signs), some])
    to.bind(op.outputs[0], to.emit("Where", [off, to.emit("Add", [left, other]), left]), perm)


def _select(op: Operator, to: Builder) -> None:
    """One operand or the other; the condition of SELECT may be one for each row."""
    condition, rank = op.input(0), to.rank(op.outputs[0])
    by_row = op.kind == "SELECT" and to.rank(condition) == 1 and rank > 1
    if not by_row:
        names, perm = _aligned(op, to, op.inputs[:3])
        to.bind(op.outputs[0], to.emit("Where", names), perm)
        return
    rows = to.emit("Unsqueeze", [to.read(condition), to.longs(*range(1, rank))])
    others = [to.read(index) for index in op.inputs[1:3]]
    to.bind(op.outputs[0], to.emit("Where", [rows, *others]))


def _atan2(op: Operator, to: Builder) -> None:
    """The angle of a point: that of the slope, half a turn further where x is negative.

    A zero has a sign, which its reciprocal shows.
    """
    (y, x), perm = _aligned(op, to, op.inputs[:2])
    dtype = to.dtype(op.outputs[0])
    zero = to.number(0, dtype)
    negative = [
        to.emit("Or", [to.emit("Less", [name, zero]), to.emit("Less", [back, zero])])
        for name, back in ((name, to.emit("Reciprocal", [name])) for name in (y, x))
    ]
    slope = to.emit("Where", [to.emit("Equal", [y, zero]), y, to.emit("Div", [y, x])])
    half = [to.number(turn, dtype) for turn in (-math.pi, math.pi)]
    turned = to.emit("Where", [negative[0], *half])
    angle = to.emit("Atan", [slope])
    made = to.emit("Where", [negative[1], to.emit("Add", [angle, turned]), angle])
    to.bind(op.outputs[0], made, perm)


def _bitwise_and(op: Operator, to: Builder) -> None:
    """Booleans have an operator of their own."""
    names, perm = _aligned(op, to, op.inputs[:2])
    kind = "And" if to.dtype(op.outputs[0]).kind == "b" else "BitwiseAnd"
    to.bind(op.outputs[0], to.emit(kind, names), perm)


def _bitwise_xor(op: Operator, to: Builder) -> None:
    """Booleans have an operator of their own."""
    names, perm = _aligned(op, to, op.inputs[:2])
    kind = "Xor" if to.dtype(op.outputs[0]).kind == "b" else "BitwiseXor"
    to.bind(op.outputs[0], to.emit(kind, names), perm)


OPERATORS: dict[str, Importing] = {
    "ADD": _binary("Add"),
    "ADD_N": _add_n,
    "ATAN2": _atan2,
    "BITWISE_XOR": _bitwise_xor,
    "DIV": _binary("Div"),
    "EQUAL": _binary("Equal"),
    "FLOOR_DIV": _floor_div,
    "FLOOR_MOD": _floor_mod,
    "GREATER": _binary("Greater"),
    "GREATER_EQUAL": _binary("GreaterOrEqual"),
    "LESS": _binary("Less"),
    "LESS_EQUAL": _binary("LessOrEqual"),
    "LOGICAL_AND": _binary("And"),
    "LOGICAL_OR": _binary("Or"),
    "MAXIMUM": _binary("Max"),
    "MINIMUM": _binary("Min"),
    "MUL": _binary("Mul"),
    "NOT_EQUAL": _binary("Equal", negated=True),
    "POW": _binary("Pow"),
    "SELECT": _select,
    "SELECT_V2": _select,
    "SQUARED_DIFFERENCE": _squared_difference,
    "STABLEHLO_AND": _bitwise_and,
    "SUB": _binary("Sub"),
}
