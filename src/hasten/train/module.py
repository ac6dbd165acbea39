"""Any ONNX graph as a PyTorch module, so that it can be trained as it is and written back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hasten.errors import RefusedError, RuntimeFailureError, one_line
from hasten.graph import constants_of
from hasten.train.freezing import frozen_names
from hasten.train.operators import OPERATORS, REFUSALS, Mode, Node, Operator
from hasten.train.parameters import running_statistics, trainable_weights

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = ["GraphModule", "Walked"]

#: Opset taken where a graph names none for ONNX's own domain.
_NO_OPSET = 1


@dataclass(frozen=True, eq=False)
class _Step:
    """A node ready to run: what to read, what to write, and what nobody reads afterwards."""

    node: Node
    function: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last_use: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Walked:
    """A node that was run: what it read, and what it made, by name."""

    node: Node
    inputs: Sequence[torch.Tensor | None]
    outputs: Mapping[str, torch.Tensor]


class GraphModule(nn.Module):
    """A graph's nodes run one after another by torch, with gradients.

    Weights and biases are parameters; means and variances of batch norms are buffers, which
    training moves as torch's own batch norm does. ``module({name: tensor})`` returns a dict of
    outputs; ``module(tensor, ...)``, in the order of the inputs, the output itself, or a tuple of
    several. ``outputs`` names other tensors of the graph to return instead of its outputs.
    The module starts in evaluation mode. Integers stay on the CPU, since shapes are made of them.

    Raises RefusedError that names the operators that cannot be trained.
    """

    def __init__(self, graph: onnx.ModelProto, *, outputs: Iterable[str] = ()) -> None:
        super().__init__()
        self.graph = graph
        self.mode = Mode()
        constants = constants_of(graph.graph)
        self.input_names = [each.name for each in graph.graph.input if each.name not in constants]
        self.output_names = list(outputs) or [each.name for each in graph.graph.output]
        self._homes: dict[str, str] = {}
        self._constants: dict[str, torch.Tensor] = {}
        self._steps = _plan(graph, self.mode, self.output_names)
        self._hold(constants)
        self.eval()

    def _hold(self, constants: Mapping[str, onnx.TensorProto]) -> None:
        """Keep each constant as what it is: a parameter, a buffer, or a tensor of the CPU."""
        trainable = set(trainable_weights(self.graph))
        moving = set(running_statistics(self.graph))
        used = {name for step in self._steps for name in step.inputs} | set(self.output_names)
        for name, tensor in constants.items():
            if name not in used:
                continue
            value = _tensor(tensor)
            if name in trainable:
                self.register_parameter(self._home(name), nn.Parameter(value))
            elif name in moving:
                self.register_buffer(self._home(name), value)
            elif value.is_floating_point() and value.ndim:
                self.register_buffer(self._home(name), value, persistent=False)
            else:
                self._constants[name] = value

    def _home(self, name: str) -> str:
        """Return the attribute that holds a constant: torch takes no dots in names."""
        home = f"{name.replace('.', '/')}:"
        while home in self._homes.values():
            home += ":"
        self._homes[name] = home
        return home

    def forward(self, *inputs: Any) -> Any:
        """Run the graph: see the class."""
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return self._run(inputs[0])
        found = self._run(dict(zip(self.input_names, inputs, strict=True)))
        values = tuple(found.values())
        return values[0] if len(values) == 1 else values

    def _run(self, feed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        values = self._held()
        for name in self.input_names:
            values[name] = feed[name]
        _run_through(self._steps, values)
        return {name: _there(values, name) for name in self.output_names}

    def _held(self) -> dict[str, torch.Tensor | None]:
        """Return what does not depend on the inputs, by its name in the graph."""
        values: dict[str, torch.Tensor | None] = {"": None, **self._constants}
        for name, home in self._homes.items():
            values[name] = getattr(self, home)
        return values

    def walk(
        self, feed: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]
    ) -> Iterator[Walked]:
        """Run node by node; tensors that are ``given`` are read in place of those computed.

        Yields each node with what it read and what it made, before anything else reads that.
        """
        values = {**self._held(), **feed, **given}
        for step in self._steps:
            inputs = [values[name] for name in step.inputs]
            made = dict(zip(step.outputs, _computed(step, inputs), strict=False))
            yield Walked(step.node, inputs, made)
            values.update((name, value) for name, value in made.items() if name not in given)
            for name in step.last_use:
                if name not in given:
                    del values[name]

    def train(self, mode: bool = True) -> GraphModule:
        """Switch to training or, with False, to evaluation."""
        super().train(mode)
        self.mode.training = mode
        return self

    def freeze_batch_norm(self, frozen: bool = True) -> None:
        """Let batch norms use their running statistics in training too, and keep them."""
        self.mode.batch_norm_frozen = frozen

    def freeze(self, patterns: Iterable[str]) -> None:
        """Keep the weights of these layers, and the statistics of their batch norms, as they are.

        See ``hasten.train.freezing``; raises OptionError for a pattern that matches nothing.
        """
        frozen = frozen_names(self.graph, patterns)
        for name in frozen:
            parameter = self.parameter_of(name)
            if parameter is not None:
                parameter.requires_grad_(False)
        for step in self._steps:
            step.node.frozen = step.node.frozen or not frozen.isdisjoint(step.inputs[3:5])

    def parameter_of(self, name: str) -> nn.Parameter | None:
        """Return the parameter of a weight by its name in the graph; None where it is not one."""
        found = getattr(self, self._homes.get(name, ""), None)
        return found if isinstance(found, nn.Parameter) else None

    def value_of(self, name: str) -> np.ndarray:
        """Return a parameter or a moved statistic as an array of its own, by its name in the graph.

        Raises KeyError for what is neither.
        """
        state = self.state_dict()[self._homes[name]]
        value: np.ndarray = state.cpu().numpy().copy()
        return value

    def constants(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Return tensors that depend on no input, such as trained scales, as arrays of their own.

        Raises KeyError for one that does.
        """
        wanted = list(dict.fromkeys(names))
        was_training, values = self.training, self._held()
        self.eval()
        with torch.no_grad():
            _run_through(_plan(self.graph, self.mode, wanted), values)
        self.train(was_training)
        return {name: _there(values, name).detach().cpu().numpy().copy() for name in wanted}

    def to_graph(self) -> onnx.ModelProto:
        """Return the graph with the trained values in place of its own."""
        import onnx
        from onnx import numpy_helper

        written = onnx.ModelProto()
        written.CopyFrom(self.graph)
        state = self.state_dict()
        for name, tensor in constants_of(written.graph).items():
            if self._homes.get(name) in state:
                value = numpy_helper.from_array(self.value_of(name), tensor.name)
                tensor.CopyFrom(value)
        return written


def _run_through(steps: Iterable[_Step], values: dict[str, torch.Tensor | None]) -> None:
    """Run nodes in order; ``values`` holds what they read, and afterwards what is kept of them."""
    for step in steps:
        made = _computed(step, [values[name] for name in step.inputs])
        values.update(zip(step.outputs, made, strict=False))
        for name in step.last_use:
            del values[name]


def _computed(step: _Step, inputs: list[torch.Tensor | None]) -> tuple[torch.Tensor, ...]:
    try:
        made = step.function(step.node, *inputs)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise RuntimeFailureError(
            f"torch could not run {step.node.label}: {one_line(error)}"
        ) from error
    return made if isinstance(made, tuple) else (made,)


def _plan(graph: onnx.ModelProto, mode: Mode, outputs: Iterable[str]) -> list[_Step]:
    """Put the nodes that outputs need beside their functions, in order.

    Raises RefusedError that names those without one.
    """
    opset = _NO_OPSET
    for entry in graph.opset_import:
        if entry.domain in {"", "ai.onnx"}:
            opset = entry.version
    nodes = [Node(proto, opset, mode) for proto in _needed(graph.graph, outputs)]
    problems = [_problem(node) for node in nodes]
    if any(problems):
        raise RefusedError(f"cannot be trained: {', '.join(filter(None, problems))}")
    kept = {*outputs, "", *constants_of(graph.graph)}
    steps: list[_Step] = []
    for node in reversed(nodes):
        inputs, made = tuple(node.proto.input), tuple(node.proto.output)
        last = tuple(dict.fromkeys(name for name in (*inputs, *made) if name not in kept))
        kept.update(last)
        steps.append(_Step(node, OPERATORS[node.kind], inputs, made, last))
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


def _is_constant(proto: onnx.NodeProto) -> bool:
    return proto.op_type == "Constant" and [a.name for a in proto.attribute] == ["value"]


def _tensor(proto: onnx.TensorProto) -> torch.Tensor:
    from onnx import numpy_helper

    array = numpy_helper.to_array(proto)
    try:
        return torch.tensor(array)
    except TypeError:
        raise RefusedError(
            f"cannot be trained: constant {proto.name} of dtype {array.dtype}"
        ) from None


def _there(values: Mapping[str, torch.Tensor | None], name: str) -> torch.Tensor:
    value = values[name]
    if value is None:
        raise RuntimeFailureError(f"the graph did not compute {name}")
    return value
