"""Layers of a pruned graph whose weights can be solved anew, and how these are read and written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hasten.compress.activations.layer_inputs import has_moments
from hasten.compress.pruning.channels import FIXED, Ids, Untraceable
from hasten.compress.pruning.groups import ChannelMap
from hasten.compress.pruning.least_squares import Fitted
from hasten.compress.quantization.biased_layers import BiasedLayer, biased_layers
from hasten.graph import attribute_of

if TYPE_CHECKING:
    import onnx

__all__ = ["SolvableLayer", "solvable_layers"]

_BIAS = 2


class SolvableLayer(NamedTuple):
    """A node of the pruned graph, and what is left in it of what the whole layer gives.

    ``left`` are indices by axis of its result, for axes that have lost some, and for that of its
    outputs, which is ``axis``. ``biased`` says where it adds a constant; None where it adds none.
    """

    node: onnx.NodeProto
    axis: int
    left: Mapping[int, npt.NDArray[np.int64]]
    biased: BiasedLayer | None
    weight_shape: tuple[int, ...]

    def left_of(self, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what is left of the whole layer's result."""
        for axis, indices in self.left.items():
            if len(indices) != value.shape[axis]:
                value = value.take(indices, axis=axis)
        return value

    @property
    def unknowns(self) -> int:
        """How many weights make one output."""
        per_output = math.prod(self.weight_shape[1:])
        return self.weight_shape[0] if self._turned else per_output

    def read(self, graph: onnx.GraphProto) -> Fitted:
        """Return its weights and biases as they are."""
        weight = _array(graph, self.node.input[1])
        rows = weight.T if self._turned else weight
        groups = attribute_of(self.node, "group", 1)
        weights = rows.reshape(groups, rows.shape[0] // groups, -1).astype(np.float64)
        biases = np.zeros(weights.shape[:2])
        if self.biased is not None and self.biased.bias:
            biases = biases + _array(graph, self.biased.bias).reshape(biases.shape)
        return Fitted(weights, biases)

    def write(self, graph: onnx.GraphProto, fitted: Fitted) -> None:
        """Give it these weights and biases, in place."""
        weight = _array(graph, self.node.input[1])
        rows = weight.T if self._turned else weight
        solved = fitted.weights.reshape(rows.shape)
        _put(graph, self.node.input[1], solved.T if self._turned else solved)
        if self.biased is None:
            return
        name, values = self.biased.bias, fitted.biases.reshape(-1)
        if name:
            _put(graph, name, values.reshape(_array(graph, name).shape))
        elif values.any():
            del self.node.input[_BIAS:]
            self.node.input.append(f"{self.node.output[0]}_bias")
            _put(graph, self.node.input[_BIAS], values)

    @property
    def _turned(self) -> bool:
        """Whether its weights have a column for each output, not a row."""
        if self.node.op_type == "Gemm":
            return not attribute_of(self.node, "transB", 0)
        return self.node.op_type == "MatMul"


def solvable_layers(
    graph: onnx.ModelProto, found: ChannelMap, keep: Mapping[str, Sequence[int] | Ids]
) -> list[SolvableLayer]:
    """Return the layers whose weights and biases are theirs alone, in the order of the graph.

    ``graph`` is what ``pruned(found, keep)`` made. Whose bias is computed, scaled or a matrix, and
    whose channels are not followed, is left out.
    """
    gone = found.gone(keep)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    uses = Counter(name for node in graph.graph.node for name in node.input)
    biased = {layer.node.output[0]: layer for layer in biased_layers(graph)}
    layers = []
    for node in graph.graph.node:
        if not has_moments(node, constants) or uses[node.input[1]] > 1:
            continue
        layer, (rank, left) = biased.get(node.output[0]), _left(found, node.output[0], gone)
        axis = 1 if node.op_type == "Conv" else rank - 1
        if axis not in left or (layer is None and node.op_type != "MatMul"):
            continue
        if layer is not None and layer.bias:
            values = math.prod(constants[layer.bias].dims)
            if values != len(left[axis]):
                continue
            if uses[layer.bias] > 1 and node.op_type != "MatMul":
                continue
            layer = None if uses[layer.bias] > 1 else layer
        shape = tuple(constants[node.input[1]].dims)
        layers.append(SolvableLayer(node, axis, left, layer, shape))
    return layers


def _left(
    found: ChannelMap, name: str, gone: npt.NDArray[np.bool_]
) -> tuple[int, dict[int, npt.NDArray[np.int64]]]:
    """Return the rank of a tensor, and which indices are left of each axis where it is known."""
    try:
        layout, shape = found.trace.layout(name), found.trace.shape(name)
    except Untraceable:
        return 0, {}
    left = {}
    for axis, (ids, size) in enumerate(zip(layout, shape, strict=True)):
        if ids is not None:
            left[axis] = np.flatnonzero((ids == FIXED) | ~gone[np.maximum(ids, 0)])
        elif isinstance(size, int):
            left[axis] = np.arange(size)
    return len(shape), left


def _array(graph: onnx.GraphProto, name: str) -> npt.NDArray[np.float32]:
    from onnx import numpy_helper

    (tensor,) = [tensor for tensor in graph.initializer if tensor.name == name]
    return np.asarray(numpy_helper.to_array(tensor), np.float32)


def _put(graph: onnx.GraphProto, name: str, values: npt.NDArray[np.float64]) -> None:
    from onnx import numpy_helper

    made = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
    for tensor in graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(made)
            return
    graph.initializer.append(made)
