"""What a quantized graph rounds, read from the graph itself: activations, constants and biases."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from onnx import numpy_helper

from hasten.errors import RefusedError
from hasten.graph import attribute_of, constants_of
from hasten.graph.operators import node_label

if TYPE_CHECKING:
    import onnx

__all__ = ["Activation", "Bias", "Points", "RoundedConstant", "read_points"]

_QUANTIZED = "_quantized"
_SCALE = "_scale"
#: Which inputs are rounded as weights: symmetrically, where the others have the levels of
#: activations. All of a MatMul's are.
_WEIGHT_PLACES: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1,),
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "InstanceNormalization": (1,),
    "LayerNormalization": (1,),
    "MatMul": (0, 1),
}
#: Operators whose inputs and output the QDQ writer may give one range, for runtimes to pass the
#: integers on: what has one at the start has to have one at the end.
_PASSING = frozenset(
    {
        "AveragePool",
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "GlobalAveragePool",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)


@dataclass(frozen=True)
class Activation:
    """A range that activations are rounded to, with the names of its scale and zero point.

    ``leader`` is the scale whose range it has, its own as a rule. ``fixed`` ones stay.
    """

    name: str
    scale: str
    zero_point: str
    lowest: int
    highest: int
    limits: tuple[float, float]
    leader: str
    fixed: bool


@dataclass(frozen=True)
class RoundedConstant:
    """Integers that were made of the float constant ``name``; ``output`` is their float value."""

    name: str
    kind: Literal["weight", "constant"]
    integers: str
    scale: str
    zero_point: str
    lowest: int
    highest: int
    axis: int | None
    output: str


@dataclass(frozen=True)
class Bias:
    """A bias in units of the scales of an input and a weight; ``beta`` times their product."""

    name: str
    integers: str
    scale: str
    input_scale: str
    weight_scale: str
    beta: float
    output: str


@dataclass(frozen=True, eq=False)
class Points:
    """All that a graph rounds: ``activations`` and ``constants`` by their scale, and biases.

    ``scales`` leads from each quantized or dequantized tensor to its scale.
    """

    activations: Mapping[str, Activation]
    constants: Mapping[str, RoundedConstant]
    biases: tuple[Bias, ...]
    scales: Mapping[str, str]


def read_points(
    deployed: onnx.ModelProto, source: onnx.ModelProto, fixed: Collection[str] = ()
) -> Points:
    """Read what ``deployed``, written of the float graph ``source``, rounds.

    The ranges of the tensors in ``fixed`` stay. Raises RefusedError where the graph is not of a
    kind that the QDQ writer makes.
    """
    reading = _Reading(constants_of(deployed.graph), set(constants_of(source.graph)), set(fixed))
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in deployed.graph.node:
        for at, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, at))
    for node in deployed.graph.node:
        reading.take(node, readers.get(node.output[0], []) if node.output else [])
    return reading.points()


@dataclass(eq=False)
class _Reading:
    """Goes through the nodes in order and collects what they round."""

    known: dict[str, onnx.TensorProto]
    source: set[str]
    fixed: set[str]
    activations: dict[str, Activation] = field(default_factory=dict)
    constants: dict[str, RoundedConstant] = field(default_factory=dict)
    biases: list[tuple[onnx.NodeProto, onnx.NodeProto]] = field(default_factory=list)
    scales: dict[str, str] = field(default_factory=dict)
    passed: dict[str, list[str]] = field(default_factory=dict)
    leaders: dict[str, str] = field(default_factory=dict)

    def take(self, node: onnx.NodeProto, readers: list[tuple[onnx.NodeProto, int]]) -> None:
        """Take a node with those that read its first output."""
        if node.op_type == "QuantizeLinear" and node.input[1] in self.known:
            self._activation(node)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self.known:
            self.scales[node.output[0]] = node.input[1]
            if self._array(node.input[0]).dtype == np.int32:
                self.biases.extend((node, reader) for reader, _ in readers[:1])
            else:
                self._constant(node, readers)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self.scales:
            self.scales[node.output[0]] = self.scales[node.input[0]]
        elif node.op_type in _PASSING:
            scales = [self.scales[name] for name in node.input if name in self.scales]
            self.passed.update(dict.fromkeys(node.output, scales))

    def points(self) -> Points:
        """Return all of it, each activation with the leader of its range."""
        stays = {self._leader(scale) for scale, one in self.activations.items() if one.fixed}
        activations = {
            scale: replace(one, leader=self._leader(scale), fixed=self._leader(scale) in stays)
            for scale, one in self.activations.items()
        }
        biases = tuple(self._bias(*pair) for pair in self.biases)
        return Points(activations, self.constants, biases, self.scales)

    def _activation(self, node: onnx.NodeProto) -> None:
        x, scale, *more = node.input
        self.scales[node.output[0]] = scale
        if scale in self.constants:  # what is read of a constant keeps its levels
            if self.constants[scale].axis is not None:
                raise RefusedError(f"cannot be trained: {node_label(node)} has a scale per channel")
            return
        if scale not in self.activations:
            self.activations[scale] = self._new(node, scale, *more)
        one = self.activations[scale]
        for other in self.passed.get(x, ()):
            beside = self.activations.get(other)
            if beside is not None and beside.limits == one.limits:
                self._join(other, scale)

    def _new(self, node: onnx.NodeProto, scale: str, zero_point: str = "") -> Activation:
        step = self._array(scale)
        offset = self._array(zero_point) if zero_point else np.zeros((), np.uint8)
        if step.size != 1:
            raise RefusedError(f"cannot be trained: {node_label(node)} has a scale per channel")
        levels, name = np.iinfo(offset.dtype), scale.removesuffix(_SCALE)
        low, high = ((end - int(offset)) * float(step) for end in (levels.min, levels.max))
        return Activation(
            name,
            scale,
            zero_point,
            int(levels.min),
            int(levels.max),
            (low, high),
            scale,
            name in self.fixed,
        )

    def _constant(self, node: onnx.NodeProto, readers: list[tuple[onnx.NodeProto, int]]) -> None:
        integers, scale, *zero_point = node.input
        levels = np.iinfo(self._array(integers).dtype)
        weighs = any(at in _WEIGHT_PLACES.get(one.op_type, ()) for one, at in readers)
        signed = levels.min < 0 and not (zero_point and self._array(zero_point[0]).any())
        self.constants[scale] = RoundedConstant(
            self._made_of(integers),
            "weight" if weighs and signed else "constant",
            integers,
            scale,
            zero_point[0] if zero_point else "",
            int(levels.min),
            int(levels.max),
            int(attribute_of(node, "axis", 1)) if self._array(scale).size > 1 else None,
            node.output[0],
        )

    def _bias(self, node: onnx.NodeProto, reader: onnx.NodeProto) -> Bias:
        """Return a bias with the scales of the input and the weight of the node that reads it."""
        integers, scale = node.input[:2]
        beside = [self.scales.get(name, "") for name in reader.input[:2]]
        if not all(beside):
            raise RefusedError(
                f"cannot be trained: {node_label(reader)} has an int32 bias beside float inputs"
            )
        units = self._array(beside[0]).astype(np.float64) * self._array(beside[1])
        ratio = float((self._array(scale) / units.reshape(-1)).flat[0])
        beta = 1.0 if np.isclose(ratio, 1.0, rtol=1e-3) else ratio  # rounding, or an attribute
        name = self._made_of(integers)
        return Bias(name, integers, scale, beside[0], beside[1], beta, node.output[0])

    def _made_of(self, integers: str) -> str:
        name = integers.removesuffix(_QUANTIZED)
        if name not in self.source:
            raise RefusedError(f"cannot be trained: {integers} is not made of a float constant")
        return name

    def _array(self, name: str) -> np.ndarray:
        array: np.ndarray = numpy_helper.to_array(self.known[name])
        return array

    def _join(self, one: str, other: str) -> None:
        if self._leader(one) != self._leader(other):
            self.leaders[self._leader(one)] = self._leader(other)

    def _leader(self, scale: str) -> str:
        while scale in self.leaders:
            scale = self.leaders[scale]
        return scale
