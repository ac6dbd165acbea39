"""Recurrent layers: rows lie along their batch axis; along time they would be steps."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.graph.rows.node import Node, Undecided
from hasten.graph.rows.rules.rule import Rule, Shapes
from hasten.graph.rows.tensor import FIXED, Flow, Rows

__all__ = ["RULES"]

#: Inputs that hold weights, and those that are states to begin with.
_WEIGHTS = {"LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3), "RNN": (1, 2, 3)}
_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_LENGTHS = 4


def _recurrent(node: Node, made: Sequence[Shapes]) -> Flow | Sequence[Flow]:
    del made
    kind = node.proto.op_type
    first = bool(node.attribute("layout", 0))
    if any(node.rows(at) for at in _WEIGHTS[kind]):
        raise Undecided("weights of their own for each row")
    batch = 0 if first else 1
    found = [node.rows(0)]
    if found[0] is not None and found[0].axis != batch:
        return node.joined("takes rows for steps of time")
    for at in _STATES[kind]:
        state = node.rows(at)
        if state is not None and state.axis != batch:
            return node.joined("takes the axis of rows for another")
        found.append(state)
    lengths = node.rows(_LENGTHS)
    if lengths is not None:
        found.append(Rows(batch, lengths.outer))
    given = {one for one in found if one is not None}
    if not given:
        return FIXED
    if len(given) > 1 or found[0] is None:
        raise Undecided("states or lengths of rows in another order")
    outer = found[0].outer
    steps = Rows(0 if first else 2, outer)
    return [steps, Rows(batch, outer), Rows(batch, outer)][: len(node.proto.output)]


RULES: dict[tuple[str, str], Rule] = {("", kind): _recurrent for kind in _WEIGHTS}
