"""Weight-only int8: a quarter of the bytes on disk, float arithmetic. Needs no samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from hasten.compress.step import Context, StepConfig, applied
from hasten.errors import RefusedError
from hasten.graph import all_nodes

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["PEAKS", "WeightInt8", "Weights", "apply", "quantize_weight"]

#: How many bits of int8 weights are used. Seven, where a processor adds two products in 16 bits:
#: see ``hasten.runtimes.saturation``.
Weights = Literal["w8", "w7"]
#: The largest weight, which both signs reach; 64 is that of ONNX Runtime's ``reduce_range``.
PEAKS: dict[Weights, int] = {"w8": 127, "w7": 64}

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
#: DequantizeLinear takes one scale per channel from this opset on.
_MIN_OPSET = 13


class WeightInt8(StepConfig, frozen=True, tag="weight_int8"):
    """Weights S8, symmetric, one scale per output channel."""


def apply(model: Model, config: WeightInt8, context: Context) -> Model:
    """Put the weights through QuantizeLinear for good, and a DequantizeLinear before their use."""
    import onnx

    del context
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    _require_opset_13(graph)
    axes = _weight_axes(graph)
    weights = [tensor for tensor in graph.graph.initializer if tensor.name in axes]
    if not weights:
        raise RefusedError(
            "the graph has no float32 weights of a convolution or matrix product"
            f" with {_MIN_VALUES} values or more"
        )
    dequantize = [_dequantized(graph.graph, weight, axes[weight.name]) for weight in weights]
    nodes = [*dequantize, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    # Old files list their weights as inputs too, and a value is either an input or computed.
    inputs = [value for value in graph.graph.input if value.name not in axes]
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    return model.evolve(graph, model.signature, applied(config))


def _dequantized(graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int) -> onnx.NodeProto:
    """Replace a weight by int8 values and scales; return the node that makes it of these."""
    from onnx import helper, numpy_helper

    name = weight.name
    quantized, scale = quantize_weight(numpy_helper.to_array(weight), axis)
    graph.initializer.remove(weight)
    graph.initializer.append(numpy_helper.from_array(quantized, f"{name}.int8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    return helper.make_node(
        "DequantizeLinear",
        [f"{name}.int8", f"{name}.scale"],
        [name],
        name=f"{name}.dequantize",
        axis=axis,
    )


def quantize_weight(
    weight: np.ndarray, axis: int, weights: Weights = "w8"
) -> tuple[np.ndarray, np.ndarray]:
    """Quantize to int8 with one scale per index of ``axis``, zero point 0.

    Values reach from -127 to 127, and for ``w7`` from -64 to 64. Returns the int8 values and
    float32 scales, of shape ``[weight.shape[axis]]``; values times scale are off by at most half of
    the scale.

    >>> values, scale = quantize_weight(np.array([[0.5, -1.27], [0.0, 0.0]], np.float32), axis=0)
    >>> values.tolist(), scale.tolist()
    ([[50, -127], [0, 0]], [0.009999999776482582, 1.0])
    """
    others = tuple(at for at in range(weight.ndim) if at != axis)
    peak = np.abs(weight).max(axis=others, keepdims=True)
    highest = PEAKS[weights]
    scale = np.asarray(peak / highest, np.float32)
    # A channel of zeros, or of values too small for a scale that float32 holds exactly.
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)
    quantized = np.clip(np.rint(weight / scale), -highest, highest).astype(np.int8)
    return quantized, scale.reshape(-1)


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


def _require_opset_13(graph: onnx.ModelProto) -> None:
    for opset in graph.opset_import:
        if opset.domain in {"", "ai.onnx"} and opset.version < _MIN_OPSET:
            raise RefusedError(
                f"one scale per channel needs opset 13, the graph imports {opset.version}"
            )
