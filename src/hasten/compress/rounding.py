"""Weights as the integers they become: levels, scales, and the axis of the scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from hasten.compress.weight_int8 import Weights, quantize_weight

if TYPE_CHECKING:
    import onnx

__all__ = ["RoundedWeight", "round_weights", "weight_axis"]

#: TensorProto.FLOAT, without importing onnx.
_FLOAT = 1


class RoundedWeight(msgspec.Struct, frozen=True, eq=False):
    """Integer levels (int8, in the weight's own shape) times a scale for each index of ``axis``."""

    levels: Any
    scale: Any
    axis: int

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """The real weights that these levels stand for."""
        along = [1] * self.levels.ndim
        along[self.axis] = -1
        return np.asarray(self.levels * self.scale.reshape(along), np.float32)


def round_weights(graph: onnx.ModelProto, weights: Weights) -> dict[str, RoundedWeight]:
    """Round each weight that the QDQ writer quantizes per channel to its nearest level, by name."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    found: dict[str, RoundedWeight] = {}
    for node in graph.graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if name not in constants or name in found:
            continue
        axis = weight_axis(node, constants)
        if axis is not None:
            values = numpy_helper.to_array(constants[name])
            found[name] = RoundedWeight(*quantize_weight(values, axis, weights), axis)
    return found


def weight_axis(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> int | None:
    """The axis of output channels of a node's float32 weights; None where it has none such."""
    tensor = constants.get(node.input[1]) if len(node.input) > 1 else None
    axes = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
    if tensor is None or tensor.data_type != _FLOAT or node.op_type not in axes:
        return None
    if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
        return 0
    axis = axes[node.op_type]
    return axis if axis < len(tensor.dims) else None
