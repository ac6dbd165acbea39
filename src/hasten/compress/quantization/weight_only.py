"""Weights in integers behind a DequantizeLinear each, in a graph that computes in float."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hasten.compress.quantization.rounding import Weights, channel_axis, quantize_weight
from hasten.compress.quantization.writer_form import lifted
from hasten.errors import RefusedError
from hasten.graph import FLOAT, all_nodes

if TYPE_CHECKING:
    import onnx

__all__ = ["with_integer_weights"]

#: Below this many values the scales and the extra node weigh more than what is saved.
_MIN_VALUES = 1024
#: One scale per channel came with opset 13, INT4 with 21.
_OPSETS: dict[Weights, int] = {"w8": 13, "w7": 13, "w4": 21}


def with_integer_weights(source: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Return the graph with its weights in integers, each behind a DequantizeLinear.

    Those of 4 bits are stored as INT4, two to a byte. An older graph is lifted to the opset that
    has such a DequantizeLinear. Raises RefusedError where it cannot be, or there are no weights of
    1,024 values or more.
    """
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(lifted(source, _OPSETS[weights]))
    axes = _weight_axes(graph)
    found = [tensor for tensor in graph.graph.initializer if tensor.name in axes]
    if not found:
        raise RefusedError(
            "the graph has no float32 weights of a convolution or matrix product"
            f" with {_MIN_VALUES} values or more"
        )
    dequantize = [_dequantized(graph.graph, one, axes[one.name], weights) for one in found]
    nodes = [*dequantize, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph


def _dequantized(
    graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int, weights: Weights
) -> onnx.NodeProto:
    """Replace a weight by integers and scales; return the node that makes it of these."""
    import ml_dtypes
    from onnx import helper, numpy_helper

    name = weight.name
    quantized, scale = quantize_weight(numpy_helper.to_array(weight), axis, weights)
    narrow = weights == "w4"
    integers = f"{name}.int4" if narrow else f"{name}.int8"
    stored = quantized.astype(ml_dtypes.int4) if narrow else quantized
    graph.initializer.remove(weight)
    graph.initializer.append(numpy_helper.from_array(stored, integers))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    return helper.make_node(
        "DequantizeLinear",
        [integers, f"{name}.scale"],
        [name],
        name=f"{name}.dequantize",
        axis=axis,
    )


def _weight_axes(graph: onnx.ModelProto) -> dict[str, int]:
    """Channel axis of each initializer that is nothing but a weight, by name."""
    ranks = {
        tensor.name: len(tensor.dims)
        for tensor in graph.graph.initializer
        if tensor.data_type == FLOAT
        and len(tensor.dims) > 1
        and math.prod(tensor.dims) >= _MIN_VALUES
    }
    axes: dict[str, int] = {}
    other_uses = {output.name for output in graph.graph.output}
    for node in all_nodes(graph):
        axis = channel_axis(node)
        for at, name in enumerate(node.input):
            if at != 1 or axis is None:
                other_uses.add(name)
            elif name in ranks:
                axes[name] = axis % ranks[name]
    return {name: axis for name, axis in axes.items() if name not in other_uses}
