"""Convolutions: one, two and three dimensions, grouped, depthwise, dilated."""

from __future__ import annotations

from dataclasses import replace

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.composition import joined, ordered, strided
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.padding import Window, pad, window_of
from hasten.runtimes.litert.lowering.quantization import Target
from hasten.runtimes.litert.lowering.unsupported import Unsupported
from hasten.runtimes.litert.lowering.weights import (
    bias,
    integer_form,
    real_weights,
    weights_of,
    widened,
)

__all__ = ["OPERATORS"]


def _conv(node: Node, to: Builder) -> None:
    """CONV_2D, DEPTHWISE_CONV_2D or CONV_3D; one dimension is two with a height of 1."""
    value, weights = to.value(node.input(0)), weights_of(node, to)
    window = window_of(node, value.shape[2:], weights.shape[2:])
    if value.rank == 5:
        to.bind_value(node.outputs[0], _conv_3d(node, to, to.real(value), weights, window))
        return
    if value.rank not in {3, 4}:
        raise Unsupported(f"convolves {value.rank - 2} dimensions")
    form = integer_form(node, to, value, weights)
    if form is None:
        value = to.real(value)
    last = layout.channels_last(value.rank)
    value = ordered(to, value, last)
    if value.rank == 3:
        flat = to.reshaped(value.tensor, (value.shape[0], 1, *value.tensor.shape[1:]))
        value = Value(flat, layout.channels_last(4), value.dtype)
        window, weights = window.with_height(), widened(to, weights, 2)
    made = _conv_2d(node, to, value, weights, window, form=form)
    to.bind(node.outputs[0], to.reshaped(made.tensor, layout.apply(last, node.shape)), last)


def _conv_2d(
    node: Node, to: Builder, value: Value, weights: Value, window: Window, *, form: Target | None
) -> Value:
    group = node.attribute("group", 1)
    out, per_group = weights.shape[:2]
    depthwise = group > 1 and per_group == 1
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    kernel = to.stored(weights, order)
    if form is None:  # in order first: what is stored in integers stays so, behind a DEQUANTIZE
        kernel = to.real(Value(kernel, order, FLOAT)).tensor
    data, padding = pad(to, value.tensor, window)
    options = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
    }
    if depthwise:
        options["depthMultiplier"] = out // group
    sizes = (1, *node.shape[2:]) if len(node.shape) == 3 else node.shape[2:]
    made = to.emit(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [data, kernel, bias(node, to, data, kernel, out)],
        (value.shape[0], *sizes, out),
        FLOAT if form is None else form.dtype,
        quantization=None if form is None else form.quantization,
        options=options,
    )
    return Value(made, layout.channels_last(4), FLOAT)


def _conv_3d(node: Node, to: Builder, value: Value, weights: Value, window: Window) -> Value:
    """Each group is a convolution of its own: CONV_3D has none."""
    group = node.attribute("group", 1)
    value = ordered(to, value, layout.channels_last(5))
    data, padding = pad(to, value.tensor, window)
    value = replace(value, tensor=data)
    kernel = to.stored(real_weights(to, weights), (2, 3, 4, 1, 0))
    third = bias(node, to, data, kernel, weights.shape[0])
    if group > 1 and not (kernel.data is not None and third.data is not None):
        raise Unsupported("convolves three dimensions in groups with weights that are computed")
    width, out = weights.shape[1], weights.shape[0] // group
    options = {
        "padding": padding,
        "strideD": window.strides[0],
        "strideH": window.strides[1],
        "strideW": window.strides[2],
        "dilationDFactor": window.dilations[0],
        "dilationHFactor": window.dilations[1],
        "dilationWFactor": window.dilations[2],
    }
    made = []
    for at in range(group):
        part = strided(to, value, 1, at * width, (at + 1) * width)
        chosen = slice(at * out, (at + 1) * out)
        taken, offset = kernel, third
        if group > 1:
            taken = to.constant(kernel.elements[..., chosen], kernel.name)
            offset = to.constant(third.elements[chosen], third.name)
        shape = (value.shape[0], *node.shape[2:], out)
        tensor = to.emit("CONV_3D", [part.tensor, taken, offset], shape, FLOAT, options=options)
        made.append(Value(tensor, layout.channels_last(5), FLOAT))
    return joined(to, made, 1)


OPERATORS: dict[str, Lowering] = {"Conv": _conv}
