"""Weights as the integers they become: levels, scales, and the axis of the scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from hasten.graph import FLOAT, attribute_of

if TYPE_CHECKING:
    import onnx

__all__ = [
    "PEAKS",
    "RoundedWeight",
    "Weights",
    "channel_axis",
    "quantize_weight",
    "round_weights",
    "weight_axis",
]

#: How many bits of int8 weights are used. Seven, where a processor adds two products in 16 bits:
#: see ``hasten.runtimes.saturation``. Four, where a model is to be small.
Weights = Literal["w8", "w7", "w4"]
#: The largest weight, which both signs reach; 64 is that of ONNX Runtime's ``reduce_range``.
PEAKS: dict[Weights, int] = {"w8": 127, "w7": 64, "w4": 7}
#: Axis of the output channels of a matrix or kernel, which is the second input; a stack of matrices
#: has its columns along the last.
_AXES = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}
_MATRIX = 2


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


def channel_axis(node: onnx.NodeProto) -> int | None:
    """The axis of output channels of the matrix or kernel in ``input[1]``; None where none is."""
    if node.op_type == "Gemm" and attribute_of(node, "transB", 0):
        return 0
    return _AXES.get(node.op_type)


def weight_axis(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> int | None:
    """The axis of output channels of a node's float32 weights; None where it has none such.

    So it is of a vector, and of a transposed convolution of several groups, whose output channels
    lie along two axes.
    """
    tensor = constants.get(node.input[1]) if len(node.input) > 1 else None
    axis = channel_axis(node)
    if tensor is None or tensor.data_type != FLOAT or axis is None or len(tensor.dims) < _MATRIX:
        return None
    if node.op_type == "ConvTranspose" and attribute_of(node, "group", 1) != 1:
        return None
    return axis % len(tensor.dims)
