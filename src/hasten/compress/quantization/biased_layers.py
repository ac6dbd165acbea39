"""Layers with constant weights, and where they keep their bias: within, or in an Add behind."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from hasten.graph import attribute_of

if TYPE_CHECKING:
    import onnx

__all__ = ["BiasedLayer", "ChannelsOf", "biased_layers"]

_BIAS = 2
_MATRIX = 2


class ChannelsOf(NamedTuple):
    """A tensor, and the axis of it whose indices are channels: 1, or the last, which is -1."""

    tensor: str
    axis: int


class BiasedLayer(NamedTuple):
    """A layer, what it reads, and the node that holds its bias as its input ``at``.

    A layer that holds it itself may have none yet. An Add behind a product always has.
    """

    node: onnx.NodeProto
    reads: ChannelsOf
    holder: onnx.NodeProto
    at: int = _BIAS

    @property
    def bias(self) -> str:
        """The name of the bias, empty where there is none."""
        return self.holder.input[self.at] if len(self.holder.input) > self.at else ""


def biased_layers(graph: onnx.ModelProto) -> list[BiasedLayer]:
    """Return the layers that add a constant to what they give, or can, in the order of the graph.

    They are Conv, ConvTranspose, Gemm, and a MatMul whose result only an Add of one value a column
    reads, as exporters write a linear layer on tokens.
    """
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    outputs = {output.name for output in graph.graph.output}
    uses = Counter(name for node in graph.graph.node for name in node.input)
    readers = {name: node for node in graph.graph.node for name in node.input}
    found: list[BiasedLayer] = []
    for node in graph.graph.node:
        if len(node.input) <= 1 or node.input[1] not in constants or node.input[0] in constants:
            continue
        layer: BiasedLayer | None = None
        if node.op_type == "MatMul":
            result = node.output[0]
            if uses[result] == 1 and result not in outputs:
                layer = _with_add(node, readers[result], constants)
        elif _holds_bias(node):
            layer = BiasedLayer(node, ChannelsOf(node.input[0], _channel_axis(node)), node)
        if layer is not None and (not layer.bias or layer.bias in constants):
            found.append(layer)
    return found


def _holds_bias(node: onnx.NodeProto) -> bool:
    if node.op_type == "Gemm":
        scaled = any(attribute_of(node, name, 1.0) != 1.0 for name in ("alpha", "beta"))
        return not scaled and not attribute_of(node, "transA", 0)
    return node.op_type in {"Conv", "ConvTranspose"}


def _channel_axis(node: onnx.NodeProto) -> int:
    return -1 if node.op_type == "Gemm" else 1


def _with_add(
    product: onnx.NodeProto, reader: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
) -> BiasedLayer | None:
    """Return a product with the Add behind it; None where that adds no constant to each column."""
    weight = constants[product.input[1]]
    if reader.op_type != "Add" or len(weight.dims) != _MATRIX:
        return None
    at = 1 - list(reader.input).index(product.output[0])
    dims = list(constants[reader.input[at]].dims) if reader.input[at] in constants else []
    if not dims or dims[-1] != weight.dims[1] or math.prod(dims) != dims[-1]:
        return None
    return BiasedLayer(product, ChannelsOf(product.input[0], -1), reader, at)
