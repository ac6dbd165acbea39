"""Sums of products by equation: those that are matrix products, transpositions or sums."""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import plain
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS", "parsed"]


@dataclass(frozen=True)
class _Term:
    """A value, and the letters of its axes."""

    value: Value
    letters: str

    def size(self, letter: str) -> int:
        return self.value.shape[self.letters.index(letter)]


def _einsum(node: Node, to: Builder) -> None:
    """One or two operands; each letter at most once in each."""
    values = [plain(to, to.value(name)) for name in node.inputs]
    left, right = parsed(node.attribute("equation"), [value.rank for value in values])
    for letters in (*left, right):
        if len(set(letters)) != len(letters):
            raise Unsupported("takes a diagonal: a letter stands twice in one operand")
    if len(values) > 2:
        raise Unsupported(f"multiplies {len(values)} operands at once")
    if any(value.dtype != FLOAT for value in values):
        raise Unsupported(f"sums products of {values[0].dtype}")
    terms = [_Term(value, letters) for value, letters in zip(values, left, strict=True)]
    for at, term in enumerate(terms):
        others = set(right).union(*(one.letters for one in terms if one is not term))
        terms[at] = _summed(to, term, [one for one in term.letters if one not in others])
    made = terms[0] if len(terms) == 1 else _product(to, terms[0], terms[1], right)
    order = [made.letters.index(one) for one in right]
    perm = tuple(order.index(axis) for axis in made.value.perm)
    to.bind_value(node.outputs[0], Value(made.value.tensor, perm, FLOAT))


def parsed(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Letters of each operand and of the outcome, with letters of their own for ``...``.

    >>> parsed("...ij, ...jk", [3, 3])
    (['Zij', 'Zjk'], 'Zik')
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    free = [one for one in reversed(string.ascii_letters) if one not in equation]
    widest, written = 0, []
    for letters, rank in zip(operands, ranks, strict=True):
        hidden = rank - len(letters.replace("...", "")) if "..." in letters else 0
        widest = max(widest, hidden)
        written.append(letters.replace("...", "".join(free[:hidden][::-1])))
    ellipsis = "".join(free[:widest][::-1])
    if not arrow:
        once = sorted(one for one in set(left) if one.isalpha() and left.count(one) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    return written, right.replace("...", ellipsis)


def _summed(to: Builder, term: _Term, letters: list[str]) -> _Term:
    """Letters that stand in this operand alone are summed first."""
    if not letters:
        return term
    value = term.value
    at = sorted(layout.stored_axis(value.perm, term.letters.index(one)) for one in letters)
    kept = "".join(one for one in term.letters if one not in letters)
    shape = [size for axis, size in enumerate(value.tensor.shape) if axis not in at]
    made = to.emit("SUM", [value.tensor, to.sizes(*at)], shape, FLOAT, keepDims=False)
    axes = [term.letters[axis] for at_, axis in enumerate(value.perm) if at_ not in at]
    return _Term(Value(made, tuple(kept.index(one) for one in axes), FLOAT), kept)


def _product(to: Builder, one: _Term, other: _Term, right: str) -> _Term:
    """BATCH_MATMUL: letters of both and of the outcome count batches, others are summed."""
    shared = [letter for letter in one.letters if letter in other.letters]
    for letter in shared:
        if one.size(letter) != other.size(letter):
            raise Unsupported(f"broadcasts along {letter}")
    batch = [letter for letter in shared if letter in right]
    inner = [letter for letter in shared if letter not in right]
    rows = [letter for letter in one.letters if letter not in shared]
    columns = [letter for letter in other.letters if letter not in shared]
    left = _matrix(to, one, (batch, rows, inner))
    turned = _matrix(to, other, (batch, inner, columns))
    shape = (left.shape[0], left.shape[1], turned.shape[2])
    made = to.emit("BATCH_MATMUL", [left, turned], shape, FLOAT, adjX=False, adjY=False)
    letters = "".join((*batch, *rows, *columns))
    sizes = [one.size(at) if at in one.letters else other.size(at) for at in letters]
    return _Term(Value(to.reshaped(made, sizes), layout.identity(len(sizes)), FLOAT), letters)


def _matrix(to: Builder, term: _Term, groups: tuple[list[str], list[str], list[str]]) -> Tensor:
    """The operand with each group of letters as one axis."""
    order = tuple(term.letters.index(letter) for group in groups for letter in group)
    sizes = [int(np.prod([term.size(letter) for letter in group])) for group in groups]
    return to.reshaped(to.stored(term.value, order), sizes)


OPERATORS: dict[str, Lowering] = {"Einsum": _einsum}
