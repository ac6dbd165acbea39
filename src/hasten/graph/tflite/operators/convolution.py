"""Convolutions: two and three dimensions, grouped, depthwise, dilated, transposed."""

from __future__ import annotations

import numpy as np

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.layout import Perm
from hasten.graph.tflite.operators.activation import activated
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator, Quantization
from hasten.graph.tflite.refusal import Unsupported
from hasten.graph.tflite.windows import padding, transposed_padding

__all__ = ["OPERATORS", "bias"]

#: Where ONNX's axes of weights are in those of each operator.
_WEIGHTS: dict[str, Perm] = {
    "CONV_2D": (0, 3, 1, 2),
    "CONV_3D": (4, 3, 0, 1, 2),
    "CONV_3D_TRANSPOSE": (4, 3, 0, 1, 2),
    "DEPTHWISE_CONV_2D": (3, 0, 1, 2),
    "TRANSPOSE_CONV": (3, 0, 1, 2),
}
_AXES = {4: "HW", 5: "DHW"}


def _conv(op: Operator, to: Builder) -> None:
    """Channels second; depthwise is a group for each channel."""
    data, weights = op.input(0), op.input(1)
    perm, order = _order(op, to, data), _WEIGHTS[op.kind]
    if to.rank(weights) != len(order):
        raise Unsupported(f"has weights of {to.rank(weights)} axes")
    shape = layout.apply(order, to.shape(weights))
    channels = to.shape(data)[-1]
    axes = _AXES[len(order)]
    strides = [op.option(f"Stride{axis}") for axis in axes]
    dilations = [op.option(f"Dilation{axis}Factor") for axis in axes]
    if min(*shape, channels) < 1 or channels % shape[1]:
        raise Unsupported(f"has weights {list(shape)} for {channels} channels")
    made = to.emit(
        "Conv",
        [to.read(data, perm), to.read(weights, order), *bias(op, to, 2)],
        group=channels // shape[1],
        kernel_shape=list(shape[2:]),
        strides=strides,
        dilations=dilations,
        **padding(
            op.option("Padding"), to.tensor(data).declared[1:-1], shape[2:], strides, dilations
        ),
    )
    to.bind(op.outputs[0], activated(op, to, made), perm)


def _transpose_conv(op: Operator, to: Builder) -> None:
    """Its first input says the size of the output, which the tensor that it writes has too."""
    weights, data, out = op.input(1), op.input(2), op.outputs[0]
    perm, order = _order(op, to, data), _WEIGHTS[op.kind]
    if to.rank(weights) != len(order):
        raise Unsupported(f"has weights of {to.rank(weights)} axes")
    kernel = list(layout.apply(order, to.shape(weights))[2:])
    axes = _AXES[len(order)]
    strides = [op.option(f"Stride{axis}") for axis in axes]
    if op.kind == "CONV_3D_TRANSPOSE" and any(
        op.option(f"Dilation{one}Factor") != 1 for one in axes
    ):
        raise Unsupported("is dilated")
    if None in (*to.tensor(data).declared[1:-1], *to.tensor(out).declared[1:-1]):
        raise Unsupported("writes an image of a free size")
    made = to.emit(
        "ConvTranspose",
        [to.read(data, perm), to.read(weights, order), *bias(op, to, 3, data)],
        kernel_shape=kernel,
        strides=strides,
        **transposed_padding(
            op.option("Padding"), to.shape(data)[1:-1], to.shape(out)[1:-1], kernel, strides
        ),
    )
    to.bind(out, activated(op, to, made), perm)


def _order(op: Operator, to: Builder, data: int) -> Perm:
    rank = len(_WEIGHTS[op.kind])
    if to.rank(data) != rank:
        raise Unsupported(f"reads {to.rank(data)} axes")
    return layout.channels_second(rank)


def bias(op: Operator, to: Builder, at: int, data: int | None = None) -> list[str]:
    """The bias, if any; in int32 its scale is that of what it is added to, whatever it says."""
    index = op.input(at)
    if index < 0:
        return []
    tensor = to.tensor(index)
    one = to.tensor(op.input(0) if data is None else data).quantization
    other = to.tensor(op.input(1)).quantization
    if tensor.dtype not in {"int32", "int64"} or one is None or other is None:
        return [to.read(index)]
    if not one.per_tensor or tensor.data is None:
        raise Unsupported("has an integer bias of another kind than its integers")
    product = one.scale.astype(np.float64) * other.scale
    if product.max() > np.finfo(np.float32).max:
        raise Unsupported(f"has a bias with a scale of {product.max():.3g}")
    scale = product.astype(np.float32)
    if tensor.dtype == "int64":  # which DequantizeLinear does not take
        return [
            to.constant((tensor.data * scale.astype(np.float64)).astype(np.float32), tensor.name)
        ]
    if scale.size not in {1, tensor.size}:
        raise Unsupported(f"has {scale.size} scales for {tensor.size} channels")
    found = Quantization(scale, np.zeros(scale.size, np.int64), 0)
    return [to.dequantized(to.constant(tensor.data, tensor.name), found, "int32")]


OPERATORS: dict[str, Importing] = {
    "CONV_2D": _conv,
    "CONV_3D": _conv,
    "CONV_3D_TRANSPOSE": _transpose_conv,
    "DEPTHWISE_CONV_2D": _conv,
    "TRANSPOSE_CONV": _transpose_conv,
}
