"""LSTM, GRU and RNN over a sequence of known length, step by step.

TFLite's own sequence operators keep their state from one run to the next, which ONNX's do not.
The input's part of all steps is one product; a step adds the state's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.composition import (
    casted,
    compute,
    joined,
    ordered,
    reshaped,
    strided,
)
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.cells import (
    Cell,
    States,
    activation_of,
    gru,
    input_bias,
    lstm,
    rnn,
)
from hasten.runtimes.litert.lowering.operators.matmul import fully_connected
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]

#: About ten operators a step are written into the file.
_MAX_STEPS = 1024

_Step = Callable[[Builder, Cell, Value, States], States]

#: How one step goes, and the activations where the node names none.
_CELLS: dict[str, tuple[_Step, tuple[str, ...]]] = {
    "GRU": (gru, ("sigmoid", "tanh")),
    "LSTM": (lstm, ("sigmoid", "tanh", "tanh")),
    "RNN": (rnn, ("tanh",)),
}


def _recurrent(node: Node, to: Builder) -> None:
    """Both directions, each from its initial states; all outputs."""
    value = to.real(to.value(node.input(0)))
    batch_first = bool(node.attribute("layout", 0))
    # Stored as batch, time, size whatever ONNX's order: then each step has its rows together.
    perm = (0, 1, 2) if batch_first else (1, 0, 2)
    data = to.stored(value, perm)
    if data.shape[1] > _MAX_STEPS:
        raise Unsupported(f"has {data.shape[1]} steps, more than the {_MAX_STEPS} to be unrolled")
    directions = _directions(node)
    masks = _masks(node, to, data)
    made = [
        _one_direction(node, to, data, masks, at, reverse=reverse)
        for at, reverse in enumerate(directions)
    ]
    sequence = (0, 1, 2, 3) if batch_first else (2, 0, 1, 3)
    states = (0, 1, 2) if batch_first else (1, 0, 2)
    for at, name in enumerate(node.outputs):
        if not name:
            continue
        parts = [_directed(to, one[at]) for one in made]
        order = sequence if at == 0 else states
        whole = joined(to, parts, parts[0].rank - 2)
        to.bind_value(name, replace(whole, perm=order))


def _directions(node: Node) -> list[bool]:
    """Of each direction, whether it goes backwards."""
    name = node.attribute("direction", "forward")
    return {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[name]


def _directed(to: Builder, value: Value) -> Value:
    """With an axis for the direction before the last one."""
    shape = value.shape
    return reshaped(to, value, (*shape[:-1], 1, shape[-1]))


def _one_direction(
    node: Node, to: Builder, data: Tensor, masks: Sequence[Value] | None, at: int, *, reverse: bool
) -> tuple[Value, Value, Value]:
    """States of all steps ``[batch, time, hidden]``, the last one, and the last of the cell."""
    cell, weights = _cell(node, to, at)
    bias = to.constant(input_bias(cell), f"{to.source}/bias")
    given = _unpacked(to, fully_connected(to, data, to.constant(weights), bias))
    step, _ = _CELLS[node.op]
    states = _initial(node, to, 5, at), _initial(node, to, 6, at) if node.op == "LSTM" else None
    made: dict[int, Value] = {}
    count = len(given)
    for time in reversed(range(count)) if reverse else range(count):
        new = step(to, cell, given[time], states)
        hidden = new[0]
        if masks is not None and hidden is not None:
            made[time] = compute(to, "MUL", hidden, masks[time])
            states = (
                _kept(to, new[0], states[0], masks[time]),
                _kept(to, new[1], states[1], masks[time]),
            )
        else:
            states = new
            if hidden is not None:
                made[time] = hidden
    last = states[0] or made[0]
    return _packed(to, [made[time] for time in range(count)]), last, states[1] or last


def _kept(to: Builder, new: Value | None, old: Value | None, mask: Value) -> Value | None:
    """The new state within the sequence, beyond its end the old one."""
    if new is None:
        return None
    if old is None:
        return compute(to, "MUL", new, mask)
    change = compute(to, "MUL", compute(to, "SUB", new, old), mask)
    return compute(to, "ADD", old, change)


def _cell(node: Node, to: Builder, at: int) -> tuple[Cell, np.ndarray]:
    """Weights of one direction: those of the cell, and the input's."""
    for name in ("clip", "activation_alpha", "activation_beta"):
        if node.attribute(name) is not None:
            raise Unsupported(f"has the attribute {name}")
    if node.attribute("input_forget", 0):
        raise Unsupported("couples its input and forget gates")
    weights = to.require(node.input(1), "weights")[at]
    recurrence = to.require(node.input(2), "recurrence")[at]
    rows, hidden = recurrence.shape
    biases = np.zeros(2 * rows, np.float32)
    if node.input(3):
        biases = to.require(node.input(3), "bias")[at]
    peepholes = None
    if node.op == "LSTM" and node.input(7):
        peepholes = to.require(node.input(7), "peepholes")[at]
    names = node.attribute("activations")
    default = _CELLS[node.op][1]
    chosen = default if names is None else names[at * len(default) : (at + 1) * len(default)]
    return (
        Cell(
            node.op,
            hidden,
            recurrence,
            biases[:rows],
            biases[rows:],
            peepholes,
            [activation_of(_text(name)) for name in chosen],
            bool(node.attribute("linear_before_reset", 0)),
        ),
        weights,
    )


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _initial(node: Node, to: Builder, at: int, direction: int) -> Value | None:
    """An initial state ``[batch, hidden]``; None where it is left out or zero."""
    if not node.input(at):
        return None
    known = to.array(node.input(at))
    if known is not None and not np.any(known):
        return None
    value = to.real(to.value(node.input(at)))
    axis = 1 if node.attribute("layout", 0) else 0
    value = ordered(to, value, (0, 1, 2) if axis else (1, 0, 2))
    one = strided(to, value, axis, direction, direction + 1)
    batch, _, hidden = one.tensor.shape
    return Value(to.reshaped(one.tensor, (batch, hidden)), layout.identity(2), FLOAT)


def _masks(node: Node, to: Builder, data: Tensor) -> list[Value] | None:
    """For each step ``[batch, 1]``: 1 within a sequence, 0 beyond its end."""
    name = node.input(4)
    if not name:
        return None
    batch, count, _ = data.shape
    known = to.array(name)
    if known is not None and np.all(known == count):
        return None
    lengths = reshaped(to, to.value(name), (batch, 1))
    times = to.constant(np.arange(count, dtype=lengths.dtype)[None])
    within = to.emit("LESS", [times, lengths.tensor], (batch, count), np.bool_)
    real = casted(to, Value(within, layout.identity(2), within.dtype), FLOAT)
    return _unpacked(to, reshaped(to, real, (batch, count, 1)))


def _unpacked(to: Builder, value: Value) -> list[Value]:
    """``[batch, size]`` of each step."""
    batch, count, size = value.tensor.shape
    made = [Tensor(f"{to.source}/step", value.dtype, (batch, size)) for _ in range(count)]
    to.emit_to("UNPACK", [to.stored(value)], made, num=count, axis=1)
    return [Value(tensor, layout.identity(2), value.dtype) for tensor in made]


def _packed(to: Builder, steps: Sequence[Value]) -> Value:
    """The steps behind one another as ``[batch, time, size]``."""
    tensors = [to.stored(step) for step in steps]
    batch, size = tensors[0].shape
    shape = (batch, len(tensors), size)
    made = to.emit("PACK", tensors, shape, FLOAT, valuesCount=len(tensors), axis=1)
    return Value(made, layout.identity(3), FLOAT)


OPERATORS: dict[str, Lowering] = dict.fromkeys(_CELLS, _recurrent)
