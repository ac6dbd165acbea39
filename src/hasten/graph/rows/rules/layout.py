"""Operators that put elements elsewhere: rows are followed to where they go."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hasten.graph.rows.node import Node, Undecided
from hasten.graph.rows.rules.rule import Rule, Shapes
from hasten.graph.rows.tensor import FIXED, ROW_COUNTS, SIZED, Flow, Rows, split_rows

__all__ = ["RULES", "regrouped"]


def regrouped(node: Node, before: Shapes, rows: Rows, after: Shapes) -> Flow:
    """Follow rows through a change of shape that keeps the order of elements.

    Before them lie as many elements as the axes before and the blocks of their own axis make; so
    must it be afterwards.
    """
    few, many = after
    if len(few) != len(many):
        raise Undecided("the number of its axes depends on the number of rows")
    ahead = math.prod(before[0][: rows.axis]) * rows.outer
    for axis, (one, other) in enumerate(zip(few, many, strict=True)):
        if one == other:
            continue
        blocks, rest = divmod(ahead, max(1, math.prod(few[:axis])))
        there = Rows(axis, blocks)
        if rest or not blocks or not split_rows(after, there):
            return node.joined("cuts across rows")
        return there
    return node.joined("cuts across rows")


def _reshape(node: Node, made: Sequence[Shapes]) -> Flow:
    rows = node.rows(0)
    return FIXED if rows is None else regrouped(node, node.shapes(0), rows, made[0])


def _transpose(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    rows = node.rows(0)
    if rows is None:
        return FIXED
    order = node.attribute("perm") or list(reversed(range(node.rank(0))))
    return Rows(list(order).index(rows.axis), rows.outer)


def _concat(node: Node, made: Sequence[Shapes]) -> Flow:
    rank = len(made[0][0])
    axis = node.axis(rank, 0)
    given = [at for at, tensor in enumerate(node.inputs) if tensor is not None]
    found = {node.rows(at) for at in given} - {None}
    if not found:
        return FIXED
    if len(found) > 1:
        return node.joined("puts rows along one axis beside rows along another")
    (rows,) = found
    if rows is None or rows.axis != axis:
        if any(node.rows(at) is None for at in given):
            raise Undecided("rows beside what has none")
        return rows or FIXED
    sizes = {node.shapes(at) for at in given}
    if any(node.rows(at) is None for at in given) or len(sizes) > 1:
        return node.joined("puts rows in one line with others")
    return Rows(axis, rows.outer * len(given))


def _split(node: Node, made: Sequence[Shapes]) -> Flow:
    rows = node.rows(0)
    if rows is None:
        return FIXED
    if rows.axis == node.axis(node.rank(0), 0) and made[0] != node.shapes(0):
        return node.joined("parts the axis of rows")
    return rows


def _slice(node: Node, made: Sequence[Shapes]) -> Flow:
    """Slice, and Pad: what they do to the axis of rows must leave it whole."""
    rows = node.rows(0)
    if rows is None:
        return FIXED
    few, many = node.shapes(0)
    whole = all(
        after[rows.axis] == before[rows.axis]
        for before, after in zip((few, many), made[0], strict=True)
    )
    if not whole or _turns(node, rows.axis):
        return node.joined("takes from the axis of rows")
    return rows


def _turns(node: Node, axis: int) -> bool:
    """Whether a Slice goes along this axis backwards, as one may that keeps all of it."""
    steps = node.constant(4)
    if steps is None:
        return False
    axes = node.axes(3, "axes", node.rank(0)) or tuple(range(len(steps)))
    return any(one == axis and step < 0 for one, step in zip(axes, steps.tolist(), strict=True))


def _pad(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    rows, rank = node.rows(0), node.rank(0)
    if node.rows(2) is not None:
        raise Undecided("a value to pad with of its own for each row")
    if rows is None:
        return FIXED
    pads = node.constant(1)
    amounts = node.attribute("pads", []) if pads is None else pads.reshape(-1).tolist()
    axes = list(node.axes(3, "axes", rank) or range(rank))
    if rows.axis in axes:
        at = axes.index(rows.axis)
        if amounts[at] or amounts[at + len(axes)]:
            return node.joined("pads the axis of rows")
    return rows


def _expand(node: Node, made: Sequence[Shapes]) -> Flow:
    """Expand: what is repeated for each row has a part for each; rows themselves stay."""
    rows = node.rows(0)
    rank = len(made[0][0])
    if rows is not None:
        return Rows(rows.axis + rank - node.rank(0), rows.outer)
    few, many = made[0]
    grown = [axis for axis in range(rank) if few[axis] != many[axis]]
    if not grown:
        return FIXED
    there = Rows(grown[0])
    return there if split_rows(made[0], there) else SIZED


def _tile(node: Node, made: Sequence[Shapes]) -> Flow:
    rows, repeats = node.rows(0), node.tensor(1)
    if rows is None:
        return _expand_by_tiles(node, made)
    times = repeats.values if repeats is not None else None
    if times is None:
        raise Undecided("its repeats are not constant")
    few, many = (int(value.reshape(-1)[rows.axis]) for value in times)
    if few != many:
        return node.joined("repeats rows once for each row")
    return Rows(rows.axis, rows.outer * few)


def _expand_by_tiles(node: Node, made: Sequence[Shapes]) -> Flow:
    few, many = made[0]
    grown = [axis for axis in range(len(few)) if few[axis] != many[axis]]
    if not grown:
        return FIXED
    (axis, *others) = grown
    if others or few[axis] != ROW_COUNTS[0] * node.shapes(0)[0][axis]:
        return SIZED
    return Rows(axis)


def _depth_to_space(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    return node.stays(range(1, node.rank(0)), "moves what lies along the axis of rows")


def _constant_of_shape(node: Node, made: Sequence[Shapes]) -> Flow:
    return _expand(node, made) if node.rows(0) is None else node.joined("makes sizes of rows")


def _trilu(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    return node.stays((-2, -1), "cuts a triangle of which rows are an edge")


def _reverse_sequence(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    rows, lengths = node.rows(0), node.rows(1)
    if rows is None or rows.axis != int(node.attribute("batch_axis", 1)):
        return node.joined("turns the axis of rows about")
    if lengths not in {None, Rows(0, rows.outer)}:
        raise Undecided("lengths along another axis than rows")
    return rows


RULES: dict[tuple[str, str], Rule] = {
    ("", "Reshape"): _reshape,
    ("", "Flatten"): _reshape,
    ("", "Squeeze"): _reshape,
    ("", "Unsqueeze"): _reshape,
    ("", "Transpose"): _transpose,
    ("", "Concat"): _concat,
    ("", "Split"): _split,
    ("", "Slice"): _slice,
    ("", "Pad"): _pad,
    ("", "Expand"): _expand,
    ("", "Tile"): _tile,
    ("", "ConstantOfShape"): _constant_of_shape,
    ("", "DepthToSpace"): _depth_to_space,
    ("", "SpaceToDepth"): _depth_to_space,
    ("", "Trilu"): _trilu,
    ("", "ReverseSequence"): _reverse_sequence,
}
