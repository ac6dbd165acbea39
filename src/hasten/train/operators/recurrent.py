"""Recurrent layers: by torch's own kernels where these compute the same, else step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn import functional as f

from hasten.train.operators.table import Node, Operator, Refusal

__all__ = ["OPERATORS", "REFUSALS"]

_Function = Callable[[torch.Tensor], torch.Tensor]

#: Functions of gates, by their names in lower case; those with numbers take alpha and beta.
_FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "affine": lambda x, alpha=1.0, beta=0.0: alpha * x + beta,
    "elu": lambda x, alpha=1.0: f.elu(x, alpha),
    "hardsigmoid": lambda x, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0.0, 1.0),
    "leakyrelu": lambda x, alpha=0.01: f.leaky_relu(x, alpha),
    "relu": torch.relu,
    "scaledtanh": lambda x, alpha=1.0, beta=1.0: alpha * torch.tanh(beta * x),
    "sigmoid": torch.sigmoid,
    "softplus": f.softplus,
    "softsign": f.softsign,
    "tanh": torch.tanh,
    "thresholdedrelu": lambda x, alpha=1.0: torch.where(x > alpha, x, torch.zeros_like(x)),
}
#: How many numbers each takes.
_NUMBERS = {
    "affine": 2,
    "elu": 1,
    "hardsigmoid": 2,
    "leakyrelu": 1,
    "scaledtanh": 2,
    "thresholdedrelu": 1,
}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}
#: ONNX's gates in torch's order: input, forget, cell, output; reset, update, new.
_TORCH_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


def _recurrent(kind: str) -> Operator:
    def compute(
        node: Node,
        x: torch.Tensor,
        weights: torch.Tensor,
        recurrence: torch.Tensor,
        bias: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
        hidden: torch.Tensor | None = None,
        cell: torch.Tensor | None = None,
        peephole: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        first = node.integer("layout") == 1
        if first:
            x = x.transpose(0, 1)
            hidden, cell = (None if one is None else one.transpose(0, 1) for one in (hidden, cell))
        ways, batch, size = len(weights), x.shape[1], recurrence.shape[2]
        start = x.new_zeros(ways, batch, size)
        state = [start if one is None else one for one in (hidden, cell)]
        bias = x.new_zeros(ways, 2 * _GATES[kind] * size) if bias is None else bias
        if _is_usual(node, kind, lengths, peephole):
            y, *last = _by_torch(kind, node, x, (weights, recurrence, bias), state)
        else:
            y, *last = _by_steps(
                kind, node, x, (weights, recurrence, bias), state, lengths, peephole
            )
        if first:
            return y.permute(2, 0, 1, 3), *(one.transpose(0, 1) for one in last)
        return y, *last

    return compute


def _is_usual(
    node: Node, kind: str, lengths: torch.Tensor | None, peephole: torch.Tensor | None
) -> bool:
    """Whether torch's own layer computes this."""
    names = [one.decode().lower() for one in node.attributes.get("activations", [])]
    return (
        lengths is None
        and peephole is None
        and all(names[at : at + len(_USUAL[kind])] == _USUAL[kind] for at in _starts(names, kind))
        and "clip" not in node.attributes
        and not node.integer("input_forget")
        and (kind != "GRU" or node.integer("linear_before_reset") == 1)
        and node.text("direction", "forward") != "reverse"
    )


def _starts(names: Sequence[str], kind: str) -> range:
    return range(0, len(names), len(_USUAL[kind]))


def _by_torch(
    kind: str,
    node: Node,
    x: torch.Tensor,
    constants: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    state: list[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    weights, recurrence, bias = constants
    ways, size = len(weights), recurrence.shape[2]
    parameters = []
    for way in range(ways):
        gates, own = (_ordered(one[way], kind, size) for one in (weights, recurrence))
        biases = [_ordered(one, kind, size) for one in bias[way].chunk(2)]
        parameters += [gates, own, *biases]
    start: Any = tuple(state) if kind == "LSTM" else state[0]
    layer: Any = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_tanh}[kind]
    training = node.mode.training
    y, *last = layer(x, start, parameters, True, 1, 0.0, training, ways == 2, False)  # noqa: PLR2004
    return y.unflatten(2, (ways, size)).transpose(1, 2), *last


def _ordered(gates: torch.Tensor, kind: str, size: int) -> torch.Tensor:
    """Put gates, which lie one behind the other, in torch's order."""
    parts = gates.split(size)
    return torch.cat([parts[at] for at in _TORCH_ORDER[kind]])


def _by_steps(
    kind: str,
    node: Node,
    x: torch.Tensor,
    constants: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    state: list[torch.Tensor],
    lengths: torch.Tensor | None,
    peephole: torch.Tensor | None,
) -> tuple[torch.Tensor, ...]:
    """Run each direction as the specification has it."""
    functions = _functions(node, kind, len(constants[0]))
    outputs, last = [], []
    for way, own in enumerate(functions):
        backward = way == 1 or node.text("direction", "forward") == "reverse"
        parts = tuple(one[way] for one in constants)
        watched = None if peephole is None else peephole[way]
        step = _STEPS[kind](node, parts, own, watched)
        y, end = _walked(step, x, [one[way] for one in state], lengths, backward=backward)
        outputs.append(y)
        last.append(end)
    found = [torch.stack(list(one)) for one in zip(*last, strict=True)]
    return torch.stack(outputs, dim=1), *(found if kind == "LSTM" else found[:1])


_State = list[torch.Tensor]
_Step = Callable[[torch.Tensor, _State], _State]


def _walked(
    step: _Step,
    x: torch.Tensor,
    state: _State,
    lengths: torch.Tensor | None,
    *,
    backward: bool,
) -> tuple[torch.Tensor, _State]:
    """Go through the time steps; past the length of a sequence its state stays and it gives 0."""
    found: dict[int, torch.Tensor] = {}
    for at in range(len(x))[:: -1 if backward else 1]:
        new = step(x[at], state)
        if lengths is None:
            state, found[at] = new, new[0]
            continue
        lives = (at < lengths.to(x.device))[:, None]
        state = [torch.where(lives, one, old) for one, old in zip(new, state, strict=True)]
        found[at] = torch.where(lives, new[0], torch.zeros_like(new[0]))
    return torch.stack([found[at] for at in range(len(x))]), state


def _lstm_step(
    node: Node, constants: Sequence[torch.Tensor], functions: Sequence[_Function], peephole: Any
) -> _Step:
    weights, recurrence, bias = constants
    total = sum(bias.chunk(2))
    watching = [0.0, 0.0, 0.0] if peephole is None else list(peephole.chunk(3))

    def step(x: torch.Tensor, state: _State) -> _State:
        hidden, cell = state
        gates = _clipped(node, x @ weights.T + hidden @ recurrence.T + total)
        i, o, forget, c = gates.chunk(4, dim=-1)
        entering = functions[0](i + watching[0] * cell)
        kept = 1 - entering
        if not node.integer("input_forget"):
            kept = functions[0](forget + watching[2] * cell)
        cell = kept * cell + entering * functions[1](c)
        return [functions[0](o + watching[1] * cell) * functions[2](cell), cell]

    return step


def _gru_step(
    node: Node, constants: Sequence[torch.Tensor], functions: Sequence[_Function], peephole: Any
) -> _Step:
    del peephole
    weights, recurrence, bias = constants
    size = recurrence.shape[1]
    outer, inner = bias.chunk(2)

    def step(x: torch.Tensor, state: _State) -> _State:
        hidden = state[0]
        gates = x @ weights.T + outer
        first = slice(0, 2 * size)
        both = gates[:, first] + hidden @ recurrence[first].T + inner[first]
        update, reset = functions[0](_clipped(node, both)).chunk(2, dim=-1)
        own, shift = recurrence[2 * size :].T, inner[2 * size :]
        if node.integer("linear_before_reset"):
            past = reset * (hidden @ own + shift)
        else:
            past = (reset * hidden) @ own + shift
        new = functions[1](_clipped(node, gates[:, 2 * size :] + past))
        return [(1 - update) * new + update * hidden, state[1]]

    return step


def _rnn_step(
    node: Node, constants: Sequence[torch.Tensor], functions: Sequence[_Function], peephole: Any
) -> _Step:
    del peephole
    weights, recurrence, bias = constants
    total = sum(bias.chunk(2))

    def step(x: torch.Tensor, state: _State) -> _State:
        gate = _clipped(node, x @ weights.T + state[0] @ recurrence.T + total)
        return [functions[0](gate), state[1]]

    return step


_STEPS = {"LSTM": _lstm_step, "GRU": _gru_step, "RNN": _rnn_step}


def _clipped(node: Node, gates: torch.Tensor) -> torch.Tensor:
    bound = node.attributes.get("clip")
    return gates if bound is None else gates.clamp(-bound, bound)


def _functions(node: Node, kind: str, ways: int) -> list[list[_Function]]:
    """Return the functions of each direction, with the numbers that belong to them."""
    names = [one.decode().lower() for one in node.attributes.get("activations", [])]
    names = names or _USUAL[kind] * ways
    alphas = list(node.attributes.get("activation_alpha", []))
    betas = list(node.attributes.get("activation_beta", []))
    made: list[_Function] = []
    for name in names:
        numbers = {}
        if _NUMBERS.get(name, 0) >= 1 and alphas:
            numbers["alpha"] = alphas.pop(0)
        if _NUMBERS.get(name, 0) >= 2 and betas:  # noqa: PLR2004 - alpha and beta
            numbers["beta"] = betas.pop(0)
        made.append(partial(_FUNCTIONS[name], **numbers))
    count = len(_USUAL[kind])
    return [made[at : at + count] for at in _starts(names, kind)]


def _refuse(node: Node) -> str:
    names = [one.decode() for one in node.attributes.get("activations", [])]
    unknown = [name for name in names if name.lower() not in _FUNCTIONS]
    return f"function {unknown[0]}" if unknown else ""


OPERATORS: dict[str, Operator] = {kind: _recurrent(kind) for kind in _GATES}

REFUSALS: dict[str, Refusal] = dict.fromkeys(_GATES, _refuse)
