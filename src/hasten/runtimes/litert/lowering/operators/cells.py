"""One step of LSTM, GRU and RNN: from the input's product and the state to the next state.

All values are ``[batch, size]``. A state that is zero throughout is None, and nothing is computed
with it. Source of the equations: the operators LSTM, GRU and RNN of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.composition import compute, constant
from hasten.runtimes.litert.lowering.operators.matmul import fully_connected
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["Cell", "States", "activation_of", "gru", "input_bias", "lstm", "rnn"]

Activation: TypeAlias = Callable[[Builder, Value], Value]
#: The hidden state, and the cell's where there is one.
States: TypeAlias = tuple[Value | None, Value | None]


@dataclass(frozen=True)
class Cell:
    """Weights of one direction, ``[gates * hidden, ...]`` as ONNX has them, and activations."""

    op: str
    hidden: int
    recurrence: np.ndarray
    input_bias: np.ndarray
    recurrence_bias: np.ndarray
    peepholes: np.ndarray | None
    activations: Sequence[Activation]
    linear_before_reset: bool = False


def _plain(kind: str) -> Activation:
    return lambda to, value: compute(to, kind, value)


_ACTIVATIONS = {"sigmoid": _plain("LOGISTIC"), "tanh": _plain("TANH"), "relu": _plain("RELU")}


def activation_of(name: str) -> Activation:
    """The activation that a node names."""
    found = _ACTIVATIONS.get(name.lower())
    if found is None:
        raise Unsupported(f"has {name} for an activation, not one of {sorted(_ACTIVATIONS)}")
    return found


def input_bias(cell: Cell) -> np.ndarray:
    """What can be added before all steps: both biases, where nothing comes between them."""
    bias = np.asarray(cell.input_bias + cell.recurrence_bias)
    if cell.linear_before_reset:
        last = slice(2 * cell.hidden, None)
        bias[last] = cell.input_bias[last]
    return bias


def lstm(to: Builder, cell: Cell, given: Value, states: States) -> States:
    """Gates in the order input, output, forget, cell."""
    hidden, memory = states
    gate, candidate, squash = cell.activations
    into, out, keep, new = _split(to, _with_recurrence(to, cell, given, hidden), 4)
    into = gate(to, _peeped(to, cell, into, memory, 0))
    made = compute(to, "MUL", into, candidate(to, new))
    if memory is not None:
        keep = gate(to, _peeped(to, cell, keep, memory, 2))
        made = compute(to, "ADD", compute(to, "MUL", keep, memory), made)
    out = gate(to, _peeped(to, cell, out, made, 1))
    return compute(to, "MUL", out, squash(to, made)), made


def _peeped(to: Builder, cell: Cell, value: Value, memory: Value | None, at: int) -> Value:
    if cell.peepholes is None or memory is None:
        return value
    weights = cell.peepholes[at * cell.hidden : (at + 1) * cell.hidden]
    return compute(to, "ADD", value, compute(to, "MUL", memory, constant(to, weights[None])))


def gru(to: Builder, cell: Cell, given: Value, states: States) -> States:
    """Gates in the order update, reset, hidden."""
    hidden = states[0]
    gate, candidate = cell.activations
    update, reset, new = _split(to, given, 3)
    size = cell.hidden
    last = slice(2 * size, None)
    inner = constant(to, cell.recurrence_bias[None, last])
    if hidden is None:
        if cell.linear_before_reset:
            new = compute(to, "ADD", new, compute(to, "MUL", gate(to, reset), inner))
        new, update = candidate(to, new), gate(to, update)
        return compute(to, "SUB", new, compute(to, "MUL", update, new)), None
    gates = _product(to, hidden, cell.recurrence[: 2 * size])
    more = _split(to, gates, 2)
    update = gate(to, compute(to, "ADD", update, more[0]))
    reset = gate(to, compute(to, "ADD", reset, more[1]))
    if cell.linear_before_reset:
        product = _product(to, hidden, cell.recurrence[last], cell.recurrence_bias[last])
        product = compute(to, "MUL", reset, product)
    else:
        product = _product(to, compute(to, "MUL", reset, hidden), cell.recurrence[last])
    new = candidate(to, compute(to, "ADD", new, product))
    kept = compute(to, "MUL", update, compute(to, "SUB", hidden, new))
    return compute(to, "ADD", new, kept), None


def rnn(to: Builder, cell: Cell, given: Value, states: States) -> States:
    """One activation."""
    (activation,) = cell.activations
    return activation(to, _with_recurrence(to, cell, given, states[0])), None


def _with_recurrence(to: Builder, cell: Cell, given: Value, hidden: Value | None) -> Value:
    if hidden is None:
        return given
    return compute(to, "ADD", given, _product(to, hidden, cell.recurrence))


def _product(
    to: Builder, value: Value, weights: np.ndarray, bias: np.ndarray | None = None
) -> Value:
    # Constants with the same bytes are stored once, so that each step may make its own.
    kernel = to.constant(weights, f"{to.source}/recurrence")
    offset = None if bias is None else to.constant(bias, f"{to.source}/bias")
    return fully_connected(to, to.stored(value), kernel, offset)


def _split(to: Builder, value: Value, parts: int) -> list[Value]:
    """Equal parts of the last axis."""
    *outer, size = value.tensor.shape
    made = [
        Tensor(f"{to.source}/split", value.dtype, (*outer, size // parts)) for _ in range(parts)
    ]
    to.emit_to("SPLIT", [to.sizes(len(outer)), value.tensor], made, numSplits=parts)
    return [Value(tensor, value.perm, value.dtype) for tensor in made]
