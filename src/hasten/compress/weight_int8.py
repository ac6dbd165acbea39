"""Weight-only int8: a quarter of the bytes on disk, float arithmetic. Needs no samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from hasten.compress.effect import Effect
from hasten.compress.step import Context, StepConfig, applied
from hasten.errors import RefusedError
from hasten.graph import all_nodes

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["PEAKS", "WeightInt8", "Weights", "apply", "quantize_weight", "with_integer_weights"]

#: How many bits of int8 weights are used. Seven, where a processor adds two products in 16 bits:
#: see ``hasten.runtimes.saturation``. Four, where a model is to be small.
Weights = Literal["w8", "w7", "w4"]
#: The largest weight, which both signs reach; 64 is that of ONNX Runtime's ``reduce_range``.
PEAKS: dict[Weights, int] = {"w8": 127, "w7": 64, "w4": 7}

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


class WeightInt8(StepConfig, frozen=True, tag="weight_int8"):
    """Weights S8, symmetric, one scale per output channel."""

    effect: ClassVar[Effect] = Effect(makes="quantized")


def apply(model: Model, config: WeightInt8, context: Context) -> Model:
    """Put the weights through QuantizeLinear for good, and a DequantizeLinear before their use."""
    del context
    graph = with_integer_weights(model.graph, "w8")
    return model.evolve(graph, model.signature, applied(config))


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


def quantize_weight(
    weight: np.ndarray, axis: int, weights: Weights = "w8"
) -> tuple[np.ndarray, np.ndarray]:
    """Quantize to int8 with one scale per index of ``axis``, zero point 0.

    Values reach from -127 to 127, for ``w7`` from -64 to 64 and for ``w4`` from -7 to 7. Returns
    the int8 values and float32 scales, of shape ``[weight.shape[axis]]``; values times scale are
    off by at most half of the scale.

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


def _require_opset(graph: onnx.ModelProto, weights: Weights) -> None:
    least, what = (21, "an INT4 weight") if weights == "w4" else (13, "one scale per channel")
    for opset in graph.opset_import:
        if opset.domain in {"", "ai.onnx"} and opset.version < least:
            raise RefusedError(f"{what} needs opset {least}, the graph imports {opset.version}")
