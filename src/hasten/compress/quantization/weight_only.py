"""Weights in integers behind a DequantizeLinear each, in a graph that computes in float."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hasten.compress.quantization.rounding import Weights, quantize_weight
from hasten.errors import RefusedError
from hasten.graph import all_nodes

if TYPE_CHECKING:
    import onnx

__all__ = ["with_integer_weights"]

#: Which input of which operator holds weights, and the axis of its output channels.
#: None stands for the last axis, and Gemm's depends on transB.
_WEIGHTS: dict[str, tuple[int, int | None]] = {
    "Conv": (1, 0),
    "ConvTranspose": (1, 1),
    "Gemm": (1, 1),
    "MatMul": (1, None),
}
#: Below this many values the scales and the extra node weigh more than what is saved.
_MIN_VALUES = 1024
#: TensorProto.FLOAT, without importing onnx.
_FLOAT = 1


def with_integer_weights(source: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Return the graph with its weights in integers, each behind a DequantizeLinear.

    Those of 4 bits are stored as INT4, two to a byte. Raises RefusedError where there are none of
    1,024 values or more, or the opset has no such DequantizeLinear.
    """
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(source)
    _require_opset(graph, weights)
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
    # Old files list their weights as inputs too, and a value is either an input or computed.
    inputs = [value for value in graph.graph.input if value.name not in axes]
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
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
        if tensor.data_type == _FLOAT
        and len(tensor.dims) > 1
        and math.prod(tensor.dims) >= _MIN_VALUES
    }
    axes: dict[str, int] = {}
    other_uses = {output.name for output in graph.graph.output}
    for node in all_nodes(graph):
        index, axis = _WEIGHTS.get(node.op_type, (-1, None))
        if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
            axis = 0
        for at, name in enumerate(node.input):
            if at != index:
                other_uses.add(name)
            elif name in ranks:
                axes[name] = ranks[name] - 1 if axis is None else axis
    return {name: axis for name, axis in axes.items() if name not in other_uses}


def _require_opset(graph: onnx.ModelProto, weights: Weights) -> None:
    least, what = (21, "an INT4 weight") if weights == "w4" else (13, "one scale per channel")
    for opset in graph.opset_import:
        if opset.domain in {"", "ai.onnx"} and opset.version < least:
            raise RefusedError(f"{what} needs opset {least}, the graph imports {opset.version}")
