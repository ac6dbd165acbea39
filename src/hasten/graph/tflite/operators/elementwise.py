"""Arithmetic, comparisons, logic and choice: element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.layout import Perm
from hasten.graph.tflite.operators.activation import activated
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS"]


def aligned(op: Operator, to: Builder, inputs: Sequence[int]) -> tuple[list[str], Perm]:
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


def binary(op_type: str, *, negated: bool = False) -> Importing:
    """A node of two operands, with the activation behind it if any."""

    def build(op: Operator, to: Builder) -> None:
        names, perm = aligned(op, to, op.inputs[:2])
        made = to.emit(op_type, names)
        if negated:
            made = to.emit("Not", [made])
        elif op.kind in _FUSING:
            made = activated(op, to, made)
        to.bind(op.outputs[0], made, perm)

    return build


_FUSING = frozenset({"ADD", "SUB", "MUL", "DIV"})


def add_n(op: Operator, to: Builder) -> None:
    """The sum of any number of operands."""
    names, perm = aligned(op, to, op.inputs)
    made = names[0]
    for name in names[1:]:
        made = to.emit("Add", [made, name])
    to.bind(op.outputs[0], made, perm)


def squared_difference(op: Operator, to: Builder) -> None:
    """The square of what two operands differ by."""
    names, perm = aligned(op, to, op.inputs[:2])
    difference = to.emit("Sub", names)
    to.bind(op.outputs[0], to.emit("Mul", [difference, difference]), perm)


def floor_div(op: Operator, to: Builder) -> None:
    """Division that rounds down, of negative numbers too; ONNX rounds integers towards zero."""
    (one, other), perm = aligned(op, to, op.inputs[:2])
    if to.dtype(op.outputs[0]).kind == "f":
        made = to.emit("Floor", [to.emit("Div", [one, other])])
    else:
        whole = to.emit("Sub", [one, to.emit("Mod", [one, other])])
        made = to.emit("Div", [whole, other])
    to.bind(op.outputs[0], made, perm)


def floor_mod(op: Operator, to: Builder) -> None:
    """What is left has the sign of the divisor; ONNX's Mod of floats has that of the dividend."""
    (one, other), perm = aligned(op, to, op.inputs[:2])
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


def select(op: Operator, to: Builder) -> None:
    """One operand or the other; the condition of SELECT may be one for each row."""
    condition, rank = op.input(0), to.rank(op.outputs[0])
    by_row = op.kind == "SELECT" and to.rank(condition) == 1 and rank > 1
    if not by_row:
        names, perm = aligned(op, to, op.inputs[:3])
        to.bind(op.outputs[0], to.emit("Where", names), perm)
        return
    rows = to.emit("Unsqueeze", [to.read(condition), to.longs(*range(1, rank))])
    others = [to.read(index) for index in op.inputs[1:3]]
    to.bind(op.outputs[0], to.emit("Where", [rows, *others]))


def bitwise_xor(op: Operator, to: Builder) -> None:
    """Booleans have an operator of their own."""
    names, perm = aligned(op, to, op.inputs[:2])
    kind = "Xor" if to.dtype(op.outputs[0]).kind == "b" else "BitwiseXor"
    to.bind(op.outputs[0], to.emit(kind, names), perm)


OPERATORS: dict[str, Importing] = {
    "ADD": binary("Add"),
    "ADD_N": add_n,
    "BITWISE_XOR": bitwise_xor,
    "DIV": binary("Div"),
    "EQUAL": binary("Equal"),
    "FLOOR_DIV": floor_div,
    "FLOOR_MOD": floor_mod,
    "GREATER": binary("Greater"),
    "GREATER_EQUAL": binary("GreaterOrEqual"),
    "LESS": binary("Less"),
    "LESS_EQUAL": binary("LessOrEqual"),
    "LOGICAL_AND": binary("And"),
    "LOGICAL_OR": binary("Or"),
    "MAXIMUM": binary("Max"),
    "MINIMUM": binary("Min"),
    "MUL": binary("Mul"),
    "NOT_EQUAL": binary("Equal", negated=True),
    "POW": binary("Pow"),
    "SELECT": select,
    "SELECT_V2": select,
    "SQUARED_DIFFERENCE": squared_difference,
    "SUB": binary("Sub"),
}
