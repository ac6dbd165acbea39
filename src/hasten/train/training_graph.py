"""From a quantized graph to the one that is trained for it: the same points, with gradients.

What the deployed graph rounds, the training graph rounds as well, and nothing else::

    x -> QuantizeLinear -> DequantizeLinear ->      becomes    x -> FakeQuantize ->
    int8 weight -> DequantizeLinear ->              becomes    float weight -> FakeQuantizeWeight ->
    int32 bias -> DequantizeLinear ->               becomes    float bias -> FakeQuantizeBias ->

Each scale, zero point and integer tensor that follows from what is trained is a tensor of the
training graph, by the name of the initializer that it becomes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from hasten.errors import RefusedError
from hasten.graph import (
    Derivations,
    ParameterNames,
    constants_of,
    parameter_names,
    parents_of,
    with_parameter_names,
)
from hasten.train.operators.fake_quantize import (
    ACTIVATION,
    BIAS,
    CONSTANT_SCALE,
    DOMAIN,
    RANGE,
    WEIGHT,
    WEIGHT_SCALE,
)
from hasten.train.parameters import running_statistics
from hasten.train.quantized_points import Activation, Bias, Points, RoundedConstant, read_points

if TYPE_CHECKING:
    import onnx

__all__ = ["Recipe", "TrainingGraph", "growth_name", "limits_name", "training_graph"]


@dataclass(frozen=True, eq=False)
class TrainingGraph:
    """The graph to train, and where what it learns goes in the deployed one.

    ``places`` leads from an initializer of the deployed graph to the tensor of the training graph
    that it holds. ``ranges`` leads from an activation to the one whose range it has: itself, but
    for tensors that share their levels, such as those that a Concat joins. ``fixed`` are those of
    them that stay.
    """

    graph: onnx.ModelProto
    places: Mapping[str, str]
    ranges: Mapping[str, str]
    fixed: frozenset[str]


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a graph is trained for int8.

    ``trained`` are the float constants that training changes, ``derived`` how constants of the
    source are made of others; ``parents`` are those of them that the source has no more.
    ``peaks`` holds the largest integer of each weight, by name; ``reduced`` says that other
    constants use half of the levels of an activation. With ``learned`` ranges are trained with the
    weights, else they are observed; those in ``fixed`` stay.
    """

    trained: Collection[str]
    derived: Derivations = field(default_factory=dict)
    parents: Mapping[str, onnx.TensorProto] = field(default_factory=dict)
    peaks: Mapping[str, int] = field(default_factory=dict)
    reduced: bool = False
    learned: bool = True
    fixed: Collection[str] = ()


def limits_name(tensor: str) -> str:
    """Return the constant that holds (low, high) of an activation."""
    return f"{tensor}/limits"


def growth_name(tensor: str) -> str:
    """Return the constant that holds by how much training has grown these, as exponents of e."""
    return f"{tensor}/growth"


def training_graph(
    deployed: onnx.ModelProto, source: onnx.ModelProto, recipe: Recipe
) -> TrainingGraph:
    """Return the graph that trains ``source``, a float graph, for ``deployed``, written of it.

    Raises RefusedError that names what training would change and the deployed graph does not hold.
    """
    points = read_points(deployed, source, recipe.fixed)
    constants = {**recipe.parents, **constants_of(source.graph), **constants_of(deployed.graph)}
    made = _Rewriting(constants, points, recipe, _rectified(source.graph))
    made.take_constants(deployed.graph)
    outputs = {output.name for output in deployed.graph.output}
    for node in deployed.graph.node:
        made.take(node, outputs)
    graph = _assembled(deployed, made)
    places = _places(deployed, graph, made)
    ranges = {one.name: points.activations[one.leader].name for one in points.activations.values()}
    fixed = frozenset(one.name for one in points.activations.values() if one.fixed)
    return TrainingGraph(graph, places, ranges, fixed)


@dataclass(eq=False)
class _Rewriting:
    """The nodes of the training graph; ``names`` leads from tensors to what took their place.

    ``learnt`` are constants that training changes, ``made`` the tensors that follow from them.
    """

    constants: dict[str, onnx.TensorProto]
    points: Points
    recipe: Recipe
    rectified: Mapping[str, dict[str, Any]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    learnt: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)

    def take_constants(self, deployed: onnx.GraphProto) -> None:
        """Make what depends on no input: ranges, scales, and constants as integers hold them."""
        self._derive(deployed)
        for activation in self.points.activations.values():
            if activation.leader == activation.scale:
                self._range(activation)
        constants = self.points.constants.values()
        for constant in constants:
            if not self._changes(constant.name):
                self._frozen(constant)
            elif constant.kind == "constant":
                self._constant(constant)
        for constant in constants:  # their scales may depend on those of the others
            if self._changes(constant.name) and constant.kind == "weight":
                self._weight(constant)
        for bias in self.points.biases:
            self._bias(bias)

    def take(self, node: onnx.NodeProto, outputs: Collection[str]) -> None:
        """Take over a node that computes activations, or what it becomes."""
        if node.op_type == "QuantizeLinear" and node.output[0] in self.points.scales:
            self._activation(node)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self.points.scales:
            # The fake quantized value is read itself; an output of the graph keeps its name.
            before, after = node.input[0], node.output[0]
            if after in outputs:
                self.nodes.append(helper.make_node("Identity", [before], [after], name=node.name))
            self.names[after] = before
        elif node.output[0] not in self.names:  # else a constant, which is made already
            kept = type(node)()
            kept.CopyFrom(node)
            kept.input[:] = [self.names.get(name, name) for name in node.input]
            self.nodes.append(kept)

    def _derive(self, deployed: onnx.GraphProto) -> None:
        """Take in the nodes that make constants of the deployed graph from what is trained."""
        rounded = [constant.name for constant in self.points.constants.values()]
        rounded += [bias.name for bias in self.points.biases]
        used = [name for node in deployed.node for name in node.input]
        for name in dict.fromkeys((*rounded, *used)):
            parents = parents_of(name, self.recipe.derived)
            changing = self._trained_of(parents)
            self.learnt.update(changing)
            for node in self.recipe.derived.get(name, ()) if changing else ():
                if node.output[0] not in self.made:
                    self.made.update(node.output)
                    self.nodes.append(node)

    def _trained_of(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self.recipe.trained and name in self.constants]

    def _changes(self, name: str) -> bool:
        return name in self.learnt or name in self.made

    def _range(self, activation: Activation) -> None:
        """Make scale and zero point of an activation; one that stays has those that it had."""
        if activation.fixed:
            self._add(_offset(activation.scale), self._array(activation.zero_point, np.float32))
            return
        limits, growth = limits_name(activation.name), growth_name(activation.name)
        self._add(limits, np.array(activation.limits, np.float64))
        inputs = [limits]
        if self.recipe.learned:
            self._add(growth, np.zeros(2, np.float32))
            self.learnt.add(growth)
            inputs.append(growth)
        self._make(
            RANGE,
            inputs,
            [activation.scale, activation.zero_point, _offset(activation.scale)],
            lowest=activation.lowest,
            highest=activation.highest,
        )

    def _frozen(self, constant: RoundedConstant) -> None:
        """Keep a constant as the deployed graph has it."""
        inputs = [constant.integers, constant.scale, constant.zero_point]
        kept = f"{constant.integers}/frozen"
        axis: dict[str, Any] = {} if constant.axis is None else {"axis": constant.axis}
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [kept], **axis))
        self.names[constant.output] = kept
        if constant.axis is None:
            self._add(_offset(constant.scale), self._array(constant.zero_point, np.float32))

    def _constant(self, constant: RoundedConstant) -> None:
        lowest, highest = constant.lowest, constant.highest
        if self.recipe.reduced:  # as the writer does: 0 to 127, or -64 to 64
            lowest, highest = (0, 127) if lowest == 0 else (-64, 64)
        outputs = [constant.scale, constant.zero_point, _offset(constant.scale)]
        self._make(CONSTANT_SCALE, [constant.name], outputs, lowest=lowest, highest=highest)
        self._round(constant, constant.zero_point)

    def _weight(self, constant: RoundedConstant) -> None:
        beside = [
            name
            for bias in self.points.biases
            if bias.weight_scale == constant.scale
            for name in (bias.name, self._scale(bias.input_scale))
        ]
        axis = {} if constant.axis is None else {"axis": constant.axis}
        peak = self.recipe.peaks.get(constant.name, 127)
        inputs = [constant.name, *beside]
        self._make(WEIGHT_SCALE, inputs, [constant.scale], peak=peak, **axis)
        self._round(constant)

    def _round(self, constant: RoundedConstant, *zero_point: str) -> None:
        rounded = f"{constant.integers}/rounded"
        self.names[constant.output] = rounded
        axis = {} if constant.axis is None else {"axis": constant.axis}
        self._make(
            WEIGHT,
            [constant.name, constant.scale, *zero_point],
            [rounded, constant.integers],
            lowest=constant.lowest,
            highest=constant.highest,
            **axis,
        )

    def _bias(self, bias: Bias) -> None:
        """Round a bias as its input and its weight do; one that nothing changes stays."""
        steps = [self._scale(bias.input_scale), self._scale(bias.weight_scale)]
        rounded = f"{bias.integers}/rounded"
        self.names[bias.output] = rounded
        if not self._changes(bias.name) and self.made.isdisjoint(steps):
            made = helper.make_node(
                "DequantizeLinear", [bias.integers, bias.scale], [rounded], axis=0
            )
            self.nodes.append(made)
            return
        self._make(BIAS, [bias.name, *steps], [rounded, bias.integers, bias.scale], beta=bias.beta)

    def _scale(self, scale: str) -> str:
        """Return the tensor of a scale: that of the activation whose range it shares."""
        activation = self.points.activations.get(scale)
        return scale if activation is None else activation.leader

    def _activation(self, node: onnx.NodeProto) -> None:
        scale = self._scale(self.points.scales[node.output[0]])
        activation = self.points.activations.get(self.points.scales[node.output[0]])
        x = self.names.get(node.input[0], node.input[0])
        inputs = [x, scale, _offset(scale)]
        if activation is None:
            bounds = np.iinfo(numpy_helper.to_array(self.constants[node.input[2]]).dtype)
            self._make(
                ACTIVATION,
                inputs,
                list(node.output),
                lowest=int(bounds.min),
                highest=int(bounds.max),
            )
            return
        if not self.recipe.learned and not activation.fixed:
            leader = self.points.activations[activation.leader]
            inputs.append(limits_name(leader.name))
        self._make(
            ACTIVATION,
            inputs,
            list(node.output),
            lowest=activation.lowest,
            highest=activation.highest,
            **self.rectified.get(activation.name, {}),
        )

    def _make(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self.made.update(outputs)
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=DOMAIN, **attributes))

    def _add(self, name: str, values: np.ndarray) -> None:
        self.constants[name] = numpy_helper.from_array(values, name)

    def _array(self, name: str, dtype: type[Any]) -> np.ndarray:
        values = numpy_helper.to_array(self.constants[name]) if name else np.zeros(())
        return np.asarray(values, dtype)


def _offset(scale: str) -> str:
    """Return the tensor that holds the zero point that belongs to a scale, as a float."""
    return f"{scale}/offset"


def _assembled(deployed: onnx.ModelProto, made: _Rewriting) -> onnx.ModelProto:
    """Return the training graph, which says of every float constant whether it is trained."""
    graph = type(deployed)()
    graph.CopyFrom(deployed)
    used = {output.name for output in deployed.graph.output}
    nodes = []
    for node in reversed(made.nodes):
        if not used.isdisjoint(node.output):
            used.update(node.input)
            nodes.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(reversed(nodes))
    del graph.graph.initializer[:]
    for name, tensor in made.constants.items():
        if name in used and name not in made.made:
            graph.graph.initializer.append(tensor)
            graph.graph.initializer[-1].name = name
    del graph.graph.value_info[:]
    graph.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    held = [one.name for one in graph.graph.initializer]
    trained = tuple(name for name in held if name in made.learnt)
    fixed = tuple(name for name in held if name not in made.learnt)
    return with_parameter_names(graph, ParameterNames(trained, fixed))


def _places(deployed: onnx.ModelProto, graph: onnx.ModelProto, made: _Rewriting) -> dict[str, str]:
    """Return which initializers of the deployed graph hold which tensors of the training graph.

    Raises RefusedError for what training changes and none of them follows from.
    """
    names = parameter_names(graph) or ParameterNames()
    changing = {*names.trained, *running_statistics(graph)}
    computed = made.made & {name for node in graph.graph.node for name in node.output}
    held = constants_of(deployed.graph)
    places = {name: name for name in held if name in changing | computed}
    for one in made.points.activations.values():
        leader = made.points.activations[one.leader]
        if leader.scale in computed:
            places |= {one.scale: leader.scale, one.zero_point: leader.zero_point}
    reaching = set(places.values())
    for node in reversed(graph.graph.node):
        if not reaching.isdisjoint(node.output):
            reaching.update(node.input)
    lost = sorted(changing - reaching)
    if lost:
        raise RefusedError(
            f"cannot be trained: the quantized graph has no place for {', '.join(lost[:3])}"
        )
    return places


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
