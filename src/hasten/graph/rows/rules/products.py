"""Products of tensors: rows may be any axis of theirs but one that is summed over."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hasten.graph.rows.node import Node, Undecided
from hasten.graph.rows.rules.rule import Rule, Shapes
from hasten.graph.rows.tensor import FIXED, Flow, Rows

__all__ = ["RULES"]

_SUMMED = "sums over the rows"
_CROSSED = "multiplies rows with one another"


def _product(node: Node, made: Sequence[Shapes], *, right: int = 1) -> Flow:
    """MatMul of the first input by that of index ``right``."""
    rank = len(made[0][0])
    left_rank, right_rank = node.rank(0), node.rank(right)
    left, other = node.rows(0), node.rows(right)
    if any(node.rows(at) for at in range(1, len(node.inputs)) if at != right):
        raise Undecided("scales of their own for each row")
    found = set()
    if left is not None:
        if left.axis == left_rank - 1:
            return node.joined(_SUMMED)
        found.add(Rows(left.axis + rank - left_rank + (right_rank == 1), left.outer))
    if other is not None:
        if other.axis == max(0, right_rank - 2):
            return node.joined(_SUMMED)
        # A vector on the left takes an axis away before the last.
        found.add(Rows(other.axis + rank - right_rank, other.outer))
        if left_rank == 1 and other.axis < right_rank - 2:
            found = {Rows(other.axis + rank - right_rank + 1, other.outer)}
    if len(found) > 1:
        return node.joined(_CROSSED)
    return found.pop() if found else FIXED


def _gemm(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    left, right, added = (node.rows(at) for at in range(3))
    found = set()
    turned = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    if left is not None:
        if (left.axis == 1) != turned[0]:
            return node.joined(_SUMMED)
        found.add(Rows(0, left.outer))
    if right is not None:
        if (right.axis == 0) != turned[1]:
            return node.joined(_SUMMED)
        found.add(Rows(1, right.outer))
    if added is not None:
        found.add(Rows(added.axis + 2 - node.rank(2), added.outer))
    if len(found) > 1:
        return node.joined(_CROSSED)
    return found.pop() if found else FIXED


def _einsum(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    text = node.attribute("equation", b"").decode().replace(" ", "")
    given, arrow, wanted = text.partition("->")
    if "." in text or not arrow:
        raise Undecided(f"its equation is {text}")
    found = set()
    for at, letters in enumerate(given.split(",")):
        rows = node.rows(at)
        if rows is not None:
            found.add((letters[rows.axis], rows.outer))
    if not found:
        return FIXED
    if len(found) > 1:
        return node.joined(_CROSSED)
    ((letter, outer),) = found
    if wanted.count(letter) != 1:
        return node.joined(_SUMMED)
    if any(letter in part and node.rows(at) is None for at, part in enumerate(given.split(","))):
        raise Undecided("rows beside what has none")
    return Rows(wanted.index(letter), outer)


RULES: dict[tuple[str, str], Rule] = {
    ("", "MatMul"): _product,
    ("", "MatMulInteger"): _product,
    ("", "QLinearMatMul"): partial(_product, right=3),
    ("", "Gemm"): _gemm,
    ("", "Einsum"): _einsum,
}
