"""From a quantized graph to the one that is trained for it: the same points, with gradients.

What the deployed graph rounds, the training graph rounds as well, and nothing else::

    x -> QuantizeLinear -> DequantizeLinear ->      becomes    x -> FakeQuantize ->
    int8 weight -> DequantizeLinear ->              becomes    float weight -> FakeQuantizeWeight ->
    int32 bias -> DequantizeLinear ->               becomes    float bias -> FakeQuantizeBias ->
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from hasten.errors import RefusedError
from hasten.graph import constants_of
from hasten.graph.operators import node_label
from hasten.train.operators.fake_quantize import ACTIVATION, BIAS, DOMAIN, WEIGHT

if TYPE_CHECKING:
    import onnx

__all__ = ["TrainingGraph", "growth_name", "limits_name", "training_graph"]

_QUANTIZED = "_quantized"
_SCALE = "_scale"
#: Operators whose inputs and output the QDQ writer may give one range, for runtimes to pass the
#: integers on: what has one at the start has to have one at the end.
_PASSING = frozenset(
    {
        "AveragePool",
        "Concat",
        "Flatten",
        "GlobalAveragePool",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)


@dataclass(frozen=True, eq=False)
class TrainingGraph:
    """The graph to train, and for each activation the one whose range it has.

    That is itself, but for tensors that share their levels, such as those that a Concat joins.
    """

    graph: onnx.ModelProto
    ranges: Mapping[str, str]


def limits_name(tensor: str) -> str:
    """Return the constant that holds (low, high) of an activation."""
    return f"{tensor}/limits"


def growth_name(tensor: str) -> str:
    """Return the constant that holds by how much training has grown these, as exponents of e."""
    return f"{tensor}/growth"


def training_graph(
    deployed: onnx.ModelProto,
    source: onnx.ModelProto,
    *,
    peak: int,
    learned: bool,
    fixed: Collection[str] = (),
) -> TrainingGraph:
    """Return the graph that trains ``source``, a float graph, for ``deployed``, written of it.

    ``peak`` is the largest integer of a weight. With ``learned``, ranges are trained with the
    weights; else they are observed; those of the tensors in ``fixed`` stay. Raises RefusedError
    where the deployed graph is not of a kind that the QDQ writer makes.
    """
    made = _Rewriting(
        deployed=constants_of(deployed.graph),
        source=constants_of(source.graph),
        rectified=_rectified(source.graph),
        outputs={output.name for output in deployed.graph.output},
        peak=peak,
        learned=learned,
        fixed=frozenset(fixed),
    )
    for node in deployed.graph.node:
        made.take(node)
    ranges = made.shared()
    graph = type(deployed)()
    graph.CopyFrom(deployed)
    del graph.graph.node[:]
    graph.graph.node.extend(made.nodes)
    del graph.graph.initializer[:]
    used = {name for node in made.nodes for name in node.input}
    for name, tensor in made.constants.items():
        if name in used:
            graph.graph.initializer.append(tensor)
            graph.graph.initializer[-1].name = name
    del graph.graph.value_info[:]
    graph.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return TrainingGraph(graph, ranges)


@dataclass(eq=False)
class _Rewriting:
    """Goes through the nodes of the deployed graph; ``names`` are those that others took over."""

    deployed: dict[str, onnx.TensorProto]
    source: dict[str, onnx.TensorProto]
    rectified: dict[str, dict[str, Any]]
    outputs: set[str]
    peak: int
    learned: bool
    fixed: frozenset[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    quantized: dict[str, str] = field(default_factory=dict)
    passed: dict[str, list[str]] = field(default_factory=dict)
    leaders: dict[str, str] = field(default_factory=dict)
    levels: dict[str, np.iinfo[Any]] = field(default_factory=dict)
    biases: set[str] = field(default_factory=set)
    weights: dict[str, onnx.NodeProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = {**self.deployed, **self.source}

    def take(self, node: onnx.NodeProto) -> None:
        """Take over one node of the deployed graph, or what it becomes."""
        if node.op_type == "QuantizeLinear" and node.input[1] in self.deployed:
            self._activation(node)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self.quantized:
            self._dequantized(node)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self.deployed:
            self._constant(node)
        else:
            kept = type(node)()
            kept.CopyFrom(node)
            kept.input[:] = [self.names.get(name, name) for name in node.input]
            if len(node.input) > 2 and node.input[2] in self.biases:  # noqa: PLR2004 - the third
                kept.input[2] = self._bias(kept)
            self.nodes.append(kept)
            if node.op_type in _PASSING:
                tensors = [self.quantized[name] for name in kept.input if name in self.quantized]
                self.passed.update(dict.fromkeys(node.output, tensors))

    def shared(self) -> dict[str, str]:
        """Let tensors of one range use the same constants; returns whose those are."""
        found = {tensor: self._leader(tensor) for tensor in self.limits}
        renamed = {
            name(tensor): name(leader)
            for tensor, leader in found.items()
            for name in (limits_name, growth_name)
        }
        for node in self.nodes:
            if node.op_type in {ACTIVATION, BIAS}:
                node.input[:] = [renamed.get(name, name) for name in node.input]
        return found

    def _learns(self, tensor: str) -> bool:
        return self.learned and tensor not in self.fixed

    def _join(self, one: str, other: str) -> None:
        if self._leader(one) != self._leader(other):
            self.leaders[self._leader(one)] = self._leader(other)

    def _leader(self, tensor: str) -> str:
        while tensor in self.leaders:
            tensor = self.leaders[tensor]
        return tensor

    def _activation(self, node: onnx.NodeProto) -> None:
        x, scale_name, *zero_point_name = node.input
        tensor = scale_name.removesuffix(_SCALE)
        scale = numpy_helper.to_array(self.deployed[scale_name])
        zero_point = np.zeros((), np.uint8)
        if zero_point_name:
            zero_point = numpy_helper.to_array(self.deployed[zero_point_name[0]])
        if scale.size != 1:
            raise RefusedError(f"cannot be trained: {node_label(node)} has a scale per channel")
        levels = np.iinfo(zero_point.dtype)
        offset, step = int(zero_point), float(scale)
        limits = (levels.min - offset) * step, (levels.max - offset) * step
        self.limits[tensor], self.levels[tensor] = limits, levels
        for other in self.passed.get(x, ()):
            if self.limits[other] == limits and self.fixed.isdisjoint((other, tensor)):
                self._join(other, tensor)
        self._add(limits_name(tensor), np.array(limits, np.float32))
        inputs = [self.names.get(x, x), limits_name(tensor)]
        if self._learns(tensor):
            self._add(growth_name(tensor), np.zeros(2, np.float32))
            inputs.append(growth_name(tensor))
        self.quantized[node.output[0]] = tensor
        self.nodes.append(
            helper.make_node(
                ACTIVATION,
                inputs,
                list(node.output),
                name=node.name,
                domain=DOMAIN,
                lowest=int(levels.min),
                highest=int(levels.max),
                fixed=int(tensor in self.fixed),
                **self.rectified.get(tensor, {}),
            )
        )

    def _dequantized(self, node: onnx.NodeProto) -> None:
        """Read the fake quantized value itself; an output of the graph keeps its name."""
        before, after = node.input[0], node.output[0]
        if after in self.outputs:
            self.nodes.append(helper.make_node("Identity", [before], [after], name=node.name))
        self.names[after] = before

    def _constant(self, node: onnx.NodeProto) -> None:
        """Put the float weight or bias in place of the integers that were made of it."""
        after = node.output[0]
        name = node.input[0].removesuffix(_QUANTIZED)
        values = numpy_helper.to_array(self.deployed[node.input[0]])
        scale = numpy_helper.to_array(self.deployed[node.input[1]])
        zero_point = np.zeros((), values.dtype)
        if len(node.input) > 2:  # noqa: PLR2004 - the zero point is the third
            zero_point = numpy_helper.to_array(self.deployed[node.input[2]])
        if name not in self.source:
            raise RefusedError(f"cannot be trained: {node.input[0]} is not made of a float weight")
        if values.dtype == np.int32:
            self.names[after] = name
            self.biases.add(after)
        elif values.dtype == np.int8 and not zero_point.any():
            axis = {each.name: each.i for each in node.attribute}.get("axis", 1)
            along = {"axis": axis} if scale.size > 1 else {}
            made = helper.make_node(
                WEIGHT, [name], [after], name=node.name, domain=DOMAIN, peak=self.peak, **along
            )
            self.weights[after] = made
            self.nodes.append(made)
        else:  # a constant that is quantized as activations are
            fixed = (values.astype(np.float32) - zero_point.astype(np.float32)) * scale
            self._add(f"{after}/fixed", fixed.astype(np.float32))
            self.names[after] = f"{after}/fixed"

    def _bias(self, node: onnx.NodeProto) -> str:
        """Round the bias of a node as its input and its weight do; returns what holds it then."""
        x, weight, bias = (str(name) for name in node.input[:3])
        if x not in self.quantized or weight not in self.weights:
            return bias
        made = self.weights[weight]
        tensor = self.quantized[x]
        rounded = f"{node.output[0]}/bias"
        inputs = [bias, made.input[0], limits_name(tensor)]
        if self._learns(tensor):
            inputs.append(growth_name(tensor))
        self.nodes.append(helper.make_node(BIAS, inputs, [rounded], domain=DOMAIN))
        self.nodes[-1].attribute.extend(each for each in made.attribute)
        levels = self.levels[tensor]
        self.nodes[-1].attribute.extend(
            [
                helper.make_attribute("lowest", int(levels.min)),
                helper.make_attribute("highest", int(levels.max)),
            ]
        )
        return rounded

    def _add(self, name: str, values: np.ndarray) -> None:
        self.constants[name] = numpy_helper.from_array(values, name)


def _rectified(graph: onnx.GraphProto) -> dict[str, dict[str, Any]]:
    """Return the bounds of what a Relu or Clip makes: the QDQ writer leaves these to the ranges."""
    known = constants_of(graph)
    found: dict[str, dict[str, Any]] = {}
    for node in graph.node:
        if node.op_type == "Relu":
            found[node.output[0]] = {"floor": 0.0}
        elif node.op_type == "Clip":
            bounds = {each.name: each.f for each in node.attribute}
            for bound, name in zip(("min", "max"), node.input[1:], strict=False):
                if name in known:
                    bounds[bound] = numpy_helper.to_array(known[name]).item()
            names = {"min": "floor", "max": "ceiling"}
            found[node.output[0]] = {names[bound]: at for bound, at in bounds.items()}
    return found
