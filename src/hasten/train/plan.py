"""The nodes of a graph beside the functions that compute them, in the order in which they run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hasten.errors import RefusedError, RuntimeFailureError, one_line
from hasten.graph import constants_of
from hasten.train.operators import OPERATORS, REFUSALS, Mode, Node, Operator

if TYPE_CHECKING:
    import onnx

__all__ = ["Step", "Values", "computed", "plan", "run_through"]

#: Opset taken where a graph names none for ONNX's own domain.
_NO_OPSET = 1

#: Tensors by name; the empty name is an input that is left out.
Values = dict[str, torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class Step:
    """A node ready to run: what to read, what to write, and what nobody reads afterwards."""

    node: Node
    function: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last_use: tuple[str, ...]


def run_through(steps: Iterable[Step], values: Values) -> None:
    """Run nodes in order; ``values`` holds what they read, and afterwards what is kept of them."""
    for step in steps:
        made = computed(step, [values[name] for name in step.inputs])
        values.update(zip(step.outputs, made, strict=False))
        for name in step.last_use:
            del values[name]


def computed(step: Step, inputs: list[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
    """Run one node; raises RuntimeFailureError that names it where torch cannot."""
    try:
        made = step.function(step.node, *inputs)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise RuntimeFailureError(
            f"torch could not run {step.node.label}: {one_line(error)}"
        ) from error
    return made if isinstance(made, tuple) else (made,)


def plan(graph: onnx.ModelProto, mode: Mode, outputs: Iterable[str]) -> list[Step]:
    """Put the nodes that outputs need beside their functions, in order.

    Raises RefusedError that names those without one.
    """
    opset = _NO_OPSET
    for entry in graph.opset_import:
        if entry.domain in {"", "ai.onnx"}:
            opset = entry.version
    known = constants_of(graph.graph)
    nodes = [
        Node(proto, opset, mode, frozen=_computes_statistics(proto, known))
        for proto in _needed(graph.graph, outputs)
    ]
    problems = [_problem(node) for node in nodes]
    if any(problems):
        raise RefusedError(f"cannot be trained: {', '.join(filter(None, problems))}")
    kept = {*outputs, "", *known}
    steps: list[Step] = []
    for node in reversed(nodes):
        inputs, made = tuple(node.proto.input), tuple(node.proto.output)
        last = tuple(dict.fromkeys(name for name in (*inputs, *made) if name not in kept))
        kept.update(last)
        steps.append(Step(node, OPERATORS[node.kind], inputs, made, last))
    return steps[::-1]


def _needed(graph: onnx.GraphProto, outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that these tensors follow from; constants are held, not computed."""
    wanted = set(outputs)
    found = []
    for proto in reversed(graph.node):
        if wanted.isdisjoint(proto.output) or _is_constant(proto):
            continue
        wanted.update(proto.input)
        found.append(proto)
    return found[::-1]


def _problem(node: Node) -> str:
    """Say which operator cannot be trained and why; empty where it can."""
    if node.kind not in OPERATORS:
        return f"operator {node.label}"
    refuse = REFUSALS.get(node.kind)
    reason = refuse(node) if refuse is not None else ""
    return f"operator {node.label}: {reason}" if reason else ""


def _computes_statistics(proto: onnx.NodeProto, known: Collection[str]) -> bool:
    """Whether a batch norm is given its mean and variance: then they are no running ones."""
    return proto.op_type == "BatchNormalization" and any(
        name not in known for name in proto.input[3:5]
    )


def _is_constant(proto: onnx.NodeProto) -> bool:
    return proto.op_type == "Constant" and [a.name for a in proto.attribute] == ["value"]
