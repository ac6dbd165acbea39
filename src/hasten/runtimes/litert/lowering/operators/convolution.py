"""Convolutions: one, two and three dimensions, grouped, depthwise, dilated, transposed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.padding import Window, pad, window_of
from hasten.runtimes.litert.lowering.program import Quantization, Tensor
from hasten.runtimes.litert.lowering.quantization import Target
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS", "bias", "bias_is_exact"]


@dataclass(frozen=True)
class _Filter:
    """Weights as ONNX has them, ``[out, in / groups, *kernel]``, with a scale where quantized."""

    data: np.ndarray
    quantization: Quantization | None
    name: str

    def arranged(self, axes: tuple[int, ...], shape: tuple[int, ...], to: Builder) -> Tensor:
        """Transposed, then reshaped; scales follow the axis of output channels."""
        data = self.data.transpose(axes).reshape(shape)
        quantization = self.quantization
        if quantization is not None and not quantization.per_tensor:
            out = self.data.shape[0]
            last = max(at for at, size in enumerate(shape) if size == out)
            quantization = quantization.on_axis(0 if axes[0] == 0 else last)
        return to.constant(data, self.name, quantization)


def _conv(node: Node, to: Builder) -> None:
    """CONV_2D, DEPTHWISE_CONV_2D or CONV_3D; one dimension is two with a height of 1."""
    value = to.value(node.input(0))
    weights = _filter(node, to)
    window = window_of(node, value.shape[2:], weights.data.shape[2:])
    form = _form(node, to, value, weights)
    if form is None:
        value, weights = to.real(value), _real(weights)
    if value.rank == 5:
        _conv_3d(node, to, value, weights, window)
        return
    if value.rank not in {3, 4}:
        raise Unsupported(f"convolves {value.rank - 2} dimensions")
    data, padding = pad(to, to.stored(value, layout.channels_last(value.rank)), window)
    out_shape = layout.apply(layout.channels_last(value.rank), node.shape)
    if value.rank == 3:
        data = to.reshaped(data, (data.shape[0], 1, *data.shape[1:]))
        window = window.with_height()
        weights = _Filter(weights.data[:, :, None], weights.quantization, weights.name)
    wide = out_shape if value.rank == 4 else (out_shape[0], 1, *out_shape[1:])
    made = _conv_2d(node, to, data, weights, window, padding=padding, shape=wide, form=form)
    to.bind(node.outputs[0], to.reshaped(made, out_shape), layout.channels_last(value.rank))


def _conv_2d(
    node: Node,
    to: Builder,
    data: Tensor,
    weights: _Filter,
    window: Window,
    *,
    padding: int,
    shape: tuple[int, ...],
    form: Target | None,
) -> Tensor:
    group = node.attribute("group", 1)
    out, per_group, height, width = weights.data.shape
    options = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
    }
    depthwise = group == data.shape[-1] and group > 1 and per_group == 1
    if depthwise:
        kernel = weights.arranged((1, 2, 3, 0), (1, height, width, out), to)
        options["depthMultiplier"] = out // group
    else:
        kernel = weights.arranged((0, 2, 3, 1), (out, height, width, per_group), to)
    return to.emit(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [data, kernel, bias(node, to, data, kernel, out)],
        shape,
        FLOAT if form is None else form.dtype,
        quantization=None if form is None else form.quantization,
        options=options,
    )


def _conv_3d(node: Node, to: Builder, value: Value, weights: _Filter, window: Window) -> None:
    if node.attribute("group", 1) != 1:
        raise Unsupported("convolves three dimensions in groups")
    data, padding = pad(to, to.stored(value, layout.channels_last(5)), window)
    kernel = weights.arranged(
        (2, 3, 4, 1, 0), tuple(weights.data.shape[at] for at in (2, 3, 4, 1, 0)), to
    )
    made = to.emit(
        "CONV_3D",
        [data, kernel, bias(node, to, data, kernel, weights.data.shape[0])],
        layout.apply(layout.channels_last(5), node.shape),
        FLOAT,
        padding=padding,
        strideD=window.strides[0],
        strideH=window.strides[1],
        strideW=window.strides[2],
        dilationDFactor=window.dilations[0],
        dilationHFactor=window.dilations[1],
        dilationWFactor=window.dilations[2],
    )
    to.bind(node.outputs[0], made, layout.channels_last(5))


def _filter(node: Node, to: Builder) -> _Filter:
    value = to.value(node.input(1))
    if not value.constant:
        raise Unsupported("its weights are not constant")
    tensor = to.stored(value)
    return _Filter(tensor.elements, tensor.quantization, tensor.name)


def _real(weights: _Filter) -> _Filter:
    """Weights of a float convolution; those kept in int8 are dequantized now."""
    found = weights.quantization
    if found is None:
        return weights
    along = [1] * weights.data.ndim
    if not found.per_tensor:
        along[found.axis] = -1
    scale, point = found.scale.reshape(along), found.zero_point.reshape(along)
    real = ((weights.data.astype(np.float32) - point) * scale).astype(np.float32)
    return _Filter(real, None, weights.name)


def _form(node: Node, to: Builder, value: Value, weights: _Filter) -> Target | None:
    """The form to write in where the integer kernel can: symmetric int8 weights, known bias."""
    form = to.target(node.outputs[0], value)
    found = weights.quantization
    if form is None or found is None or np.any(found.zero_point) or value.rank == 5:
        return None
    if weights.data.dtype != np.int8 or (not found.per_tensor and found.axis != 0):
        return None
    if form.dtype != np.int8 and np.any(form.quantization.zero_point):
        return None
    return form if bias_is_exact(node, to) else None


def bias_is_exact(node: Node, to: Builder) -> bool:
    """Whether the bias, if any, is constant: it is stored in int32 with the product's scale."""
    return not node.input(2) or to.value(node.input(2)).constant


def bias(node: Node, to: Builder, data: Tensor, kernel: Tensor, size: int) -> Tensor:
    """The third input; zeros where the node has none, since delegates expect one."""
    name = node.input(2)
    if kernel.quantization is None or data.quantization is None:
        if not name:
            return to.constant(np.zeros(size, np.float32), f"{to.source}/bias")
        found = to.real(to.value(name)).tensor
        return found if found.data is None else to.constant(to.require(name, "bias"), found.name)
    scale = (data.quantization.scale * kernel.quantization.scale).astype(np.float32)
    wide = np.int64 if data.dtype == np.int16 else np.int32
    quantization = Quantization(scale, np.zeros(scale.size, np.int64))
    if not name:
        return to.constant(np.zeros(size, wide), f"{to.source}/bias", quantization)
    tensor = to.value(name).tensor
    if tensor.dtype == wide and quantization.same(tensor.quantization):
        return tensor
    real = to.require(name, "bias").astype(np.float64)
    limits = np.iinfo(wide)
    codes = np.clip(np.rint(real / scale.astype(np.float64)), limits.min, limits.max)
    return to.constant(codes.astype(wide), tensor.name, quantization)


OPERATORS = {"Conv": _conv}
