"""Any ONNX graph as a PyTorch module, so that it can be trained as it is and written back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hasten.errors import RefusedError, RuntimeFailureError
from hasten.graph import constants_of
from hasten.train.freezing import frozen_names
from hasten.train.operators import Mode, Node
from hasten.train.parameters import running_statistics, trainable_weights
from hasten.train.plan import Values, computed, plan, run_through

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = ["GraphModule", "Walked"]


@dataclass(frozen=True, eq=False)
class Walked:
    """A node that was run: what it read, and what it made, by name."""

    node: Node
    inputs: Sequence[torch.Tensor | None]
    outputs: Mapping[str, torch.Tensor]


class GraphModule(nn.Module):
    """A graph's nodes run one after another by torch, with gradients.

    Weights and biases are parameters; means and variances of batch norms are buffers, which
    training moves as torch's own batch norm does. Both are called as in the graph: what was
    exported from PyTorch has the names that it has there. ``module({name: tensor})`` returns a
    dict of outputs; ``module(tensor, ...)``, in the order of the inputs, the output itself, or a
    tuple of several. ``outputs`` names other tensors of the graph to return instead of its outputs.
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
        self._homes: dict[str, tuple[nn.Module, str]] = {}
        self._kept: set[str] = set()
        self._constants: dict[str, torch.Tensor] = {}
        self._steps = plan(graph, self.mode, self.output_names)
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
                owner, leaf = self._home(name)
                owner.register_parameter(leaf, nn.Parameter(value))
            elif name in moving or (value.is_floating_point() and value.ndim):
                owner, leaf = self._home(name)
                owner.register_buffer(leaf, value, persistent=name in moving)
            else:
                self._constants[name] = value
        self._kept = (trainable | moving) & self._homes.keys()

    def _home(self, name: str) -> tuple[nn.Module, str]:
        """Return where a constant is held: ``a.b.weight`` is the weight of the b in a."""
        owner: nn.Module = self
        *path, leaf = name.split(".")
        for part in path:
            inner = part or ":"
            while hasattr(owner, inner) and type(getattr(owner, inner)) is not nn.Module:
                inner += ":"
            if not hasattr(owner, inner):
                owner.add_module(inner, nn.Module())
            owner = getattr(owner, inner)
        leaf = leaf or ":"
        while hasattr(owner, leaf):
            leaf += ":"
        self._homes[name] = owner, leaf
        return owner, leaf

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
        run_through(self._steps, values)
        return {name: _there(values, name) for name in self.output_names}

    def _held(self) -> Values:
        """Return what does not depend on the inputs, by its name in the graph."""
        held = {name: getattr(owner, leaf) for name, (owner, leaf) in self._homes.items()}
        return {"": None, **self._constants, **held}

    def walk(
        self, feed: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]
    ) -> Iterator[Walked]:
        """Run node by node; tensors that are ``given`` are read in place of those computed.

        Yields each node with what it read and what it made, before anything else reads that.
        """
        values = {**self._held(), **feed, **given}
        for step in self._steps:
            inputs = [values[name] for name in step.inputs]
            made = dict(zip(step.outputs, computed(step, inputs), strict=False))
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
        owner, leaf = self._homes.get(name, (self, ""))
        found = getattr(owner, leaf, None)
        return found if isinstance(found, nn.Parameter) else None

    def value_of(self, name: str) -> np.ndarray:
        """Return a parameter or a moved statistic as an array of its own, by its name in the graph.

        Raises KeyError for what is neither.
        """
        if name not in self._kept:
            raise KeyError(name)
        owner, leaf = self._homes[name]
        value: np.ndarray = getattr(owner, leaf).detach().cpu().numpy().copy()
        return value

    def constants(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Return tensors that depend on no input, such as trained scales, as arrays of their own.

        Raises KeyError for one that does.
        """
        wanted = list(dict.fromkeys(names))
        was_training, values = self.training, self._held()
        self.eval()
        with torch.no_grad():
            run_through(plan(self.graph, self.mode, wanted), values)
        self.train(was_training)
        return {name: _there(values, name).detach().cpu().numpy().copy() for name in wanted}

    def to_graph(self) -> onnx.ModelProto:
        """Return the graph with the trained values in place of its own."""
        import onnx
        from onnx import numpy_helper

        written = onnx.ModelProto()
        written.CopyFrom(self.graph)
        for name, tensor in constants_of(written.graph).items():
            if name in self._kept:
                value = numpy_helper.from_array(self.value_of(name), tensor.name)
                tensor.CopyFrom(value)
        return written


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
