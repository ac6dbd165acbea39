"""Weight-only int8: a quarter of the bytes on disk, float arithmetic. Needs no samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.step import Context, StepConfig, applied
from hasten.errors import RefusedError

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["WeightInt8", "apply", "quantize_weight"]

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
#: DequantizeLinear takes one scale per channel from this opset on.
_MIN_OPSET = 13


class WeightInt8(StepConfig, frozen=True, tag="weight_int8"):
    """Weights S8, symmetric, one scale per output channel."""


def apply(model: Model, config: WeightInt8, context: Context) -> Model:
    """Put the weights through QuantizeLinear for good, and a DequantizeLinear before their use."""
    import onnx
    from onnx import helper, numpy_helper

    del context
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    _require_opset_13(graph)
    axes = _weight_axes(graph.graph)
    dequantize = []
    for weight in list(graph.graph.initializer):
        if weight.name not in axes:
            continue
        quantized, scale = quantize_weight(numpy_helper.to_array(weight), axes[weight.name])
        name = weight.name
        graph.graph.initializer.remove(weight)
        graph.graph.initializer.extend(
            [
                numpy_helper.from_array(quantized, f"{name}.int8"),
                numpy_helper.from_array(scale, f"{name}.scale"),
            ]
        )
        node = helper.make_node(
            "DequantizeLinear",
            [f"{name}.int8", f"{name}.scale"],
            [name],
            name=f"{name}.dequantize",
            axis=axes[name],
        )
        dequantize.append(node)
    if not dequantize:
        raise RefusedError("the graph has no float32 weights of a convolution or matrix product")
    nodes = [*dequantize, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return model.evolve(graph, model.signature, applied(config))


def quantize_weight(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantize to int8 with one scale per index of ``axis``, zero point 0, range -127..127.

    Returns the int8 values and float32 scales, of shape ``[weight.shape[axis]]``.
    """
    others = tuple(at for at in range(weight.ndim) if at != axis)
    peak = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(peak > 0, peak / 127, 1).astype(np.float32)
    quantized = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    return quantized, scale.reshape(-1)


def _weight_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """Channel axis of each initializer that is nothing but a weight, by name."""
    from onnx import TensorProto

    large = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= _MIN_VALUES
    }
    axes: dict[str, int] = {}
    other_uses: set[str] = {output.name for output in graph.output}
    for node in graph.node:
        index, axis = _WEIGHTS.get(node.op_type, (-1, None))
        for at, name in enumerate(node.input):
            if at != index or name not in large:
                other_uses.add(name)
                continue
            if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
                axis = 0
            axes[name] = len(large[name].dims) - 1 if axis is None else axis
    return {name: axis for name, axis in axes.items() if name not in other_uses}


def _require_opset_13(graph: onnx.ModelProto) -> None:
    for opset in graph.opset_import:
        if opset.domain in {"", "ai.onnx"} and opset.version < _MIN_OPSET:
            raise RefusedError(
                f"one scale per channel needs opset 13, the graph imports {opset.version}"
            )
