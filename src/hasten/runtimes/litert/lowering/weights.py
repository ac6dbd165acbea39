"""Weights of convolutions and products, their biases, and when an integer kernel takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value, dequantized
from hasten.runtimes.litert.lowering.composition import ordered
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.program import Quantization, Tensor
from hasten.runtimes.litert.lowering.quantization import Target

__all__ = ["bias", "integer_form", "real_weights", "weights_of", "widened"]


def weights_of(node: Node, to: Builder, at: int = 1) -> Value:
    """The weights; constant ones have their axes in ONNX's order."""
    value = to.value(node.input(at))
    return ordered(to, value) if value.constant else value


def real_weights(to: Builder, weights: Value) -> Value:
    """Weights of a float operator that needs them now: constants kept in integers become real."""
    if weights.tensor.quantization is None or weights.tensor.data is None:
        return to.real(weights)
    made = to.constant(dequantized(weights.tensor), weights.tensor.name)
    return replace(weights, tensor=made)


def widened(to: Builder, value: Value, axis: int) -> Value:
    """The value with an axis of size 1 before this one of its own, scales along with theirs."""
    value = ordered(to, value)
    shape = (*value.shape[:axis], 1, *value.shape[axis:])
    order = layout.identity(len(shape))
    tensor = value.tensor
    found = tensor.quantization
    if tensor.data is None or found is None or found.per_tensor:
        return replace(value, tensor=to.reshaped(tensor, shape), perm=order)
    moved = found.on_axis(found.axis + (found.axis >= axis))
    made = to.constant(tensor.data.reshape(shape), tensor.name, moved)
    return replace(value, tensor=made, perm=order)


def integer_form(
    node: Node, to: Builder, value: Value, weights: Value, out_axis: int = 0
) -> Target | None:
    """The form to write in where the integer kernel can, else None.

    It wants constant symmetric int8 weights, with one scale or one for each output, and a bias
    that is known, since that is stored with the scale of the product.
    """
    form = to.target(node.outputs[0], value)
    tensor = weights.tensor
    found = tensor.quantization
    if form is None or tensor.data is None or found is None or np.any(found.zero_point):
        return None
    if tensor.dtype != np.int8 or not (found.per_tensor or weights.perm[found.axis] == out_axis):
        return None
    if form.dtype != np.int8 and np.any(form.quantization.zero_point):
        return None
    name = node.input(2)
    return form if not name or to.value(name).constant else None


def bias(node: Node, to: Builder, data: Tensor, kernel: Tensor, size: int) -> Tensor:
    """The input for the bias; zeros where the node has none, since delegates expect one."""
    name = node.input(2)
    if kernel.quantization is None or data.quantization is None:
        if not name:
            return to.constant(np.zeros(size, np.float32), f"{to.source}/bias")
        found = to.real(to.value(name)).tensor
        if found.data is None:
            return to.reshaped(found, (size,))
        real = np.broadcast_to(to.require(name, "bias").reshape(-1), (size,))
        return to.constant(real, found.name)
    scale = (data.quantization.scale * kernel.quantization.scale).astype(np.float32)
    wide = np.int64 if data.dtype == np.int16 else np.int32
    quantization = Quantization(scale, np.zeros(scale.size, np.int64))
    if not name:
        return to.constant(np.zeros(size, wide), f"{to.source}/bias", quantization)
    tensor = to.value(name).tensor
    if tensor.dtype == wide and tensor.shape == (size,) and quantization.same(tensor.quantization):
        return tensor
    real = to.require(name, "bias").astype(np.float64).reshape(-1)
    limits = np.iinfo(wide)
    codes = np.clip(np.rint(real / scale.astype(np.float64)), limits.min, limits.max)
    whole = np.broadcast_to(codes.astype(wide), (size,))
    return to.constant(whole, tensor.name, quantization)
