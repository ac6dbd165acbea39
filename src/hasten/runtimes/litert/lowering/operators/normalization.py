"""Normalizations: none is a builtin operator, all are means, roots and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.composition import (
    compute,
    constant,
    mean,
    ordered,
    reduced,
    reshaped,
)
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.matmul import fully_connected
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def _on_floats(rule: Callable[[Node, Builder, Value], Value]) -> Lowering:
    """A normalization of the first input."""

    def lower(node: Node, to: Builder) -> None:
        value = to.real(to.value(node.input(0)))
        if value.dtype != FLOAT:
            raise Unsupported(f"takes {value.dtype}")
        to.bind_value(node.outputs[0], rule(node, to, value))

    return lower


def _batch_normalization(node: Node, to: Builder, value: Value) -> Value:
    """A factor and an offset for each channel, which a convolution before takes into itself."""
    if node.attribute("training_mode", 0):
        raise Unsupported("in training mode")
    scale, shift, average, variance = (
        to.require(name, what).astype(np.float64)
        for name, what in zip(node.inputs[1:], ("scale", "bias", "mean", "variance"), strict=True)
    )
    factor = scale / np.sqrt(variance + node.attribute("epsilon", 1e-5))
    offset = shift - average * factor
    along = (-1, *(1,) * (value.rank - 2))
    scaled = compute(to, "MUL", value, constant(to, factor.reshape(along)))
    return compute(to, "ADD", scaled, constant(to, offset.reshape(along)))


def _layer_normalization(node: Node, to: Builder) -> None:
    """Over all axes from the given one on; mean and 1 / deviation are further outputs."""
    value = to.real(to.value(node.input(0)))
    axes = _from(node, value.rank)
    average = mean(to, value, axes)
    centred = compute(to, "SUB", value, average)
    inverse = _inverse_root(to, centred, axes, node.attribute("epsilon", 1e-5))
    made = compute(to, "MUL", centred, inverse)
    made = compute(to, "MUL", made, to.real(to.value(node.input(1))))
    if node.input(2):
        made = compute(to, "ADD", made, to.real(to.value(node.input(2))))
    for name, one in zip(node.outputs, (made, average, inverse), strict=False):
        if name:
            to.bind_value(name, one)


def _rms_normalization(node: Node, to: Builder, value: Value) -> Value:
    """The same without subtracting the mean."""
    axes = _from(node, value.rank)
    inverse = _inverse_root(to, value, axes, node.attribute("epsilon", 1e-5))
    made = compute(to, "MUL", value, inverse)
    return compute(to, "MUL", made, to.real(to.value(node.input(1))))


def _from(node: Node, rank: int) -> Sequence[int]:
    return range(node.attribute("axis", -1) % rank, rank)


def _inverse_root(to: Builder, value: Value, axes: Sequence[int], epsilon: float) -> Value:
    """``1 / sqrt(mean(x * x) + epsilon)``."""
    square = mean(to, compute(to, "MUL", value, value), axes)
    return compute(to, "RSQRT", compute(to, "ADD", square, epsilon))


def _normalized(to: Builder, value: Value, axes: Sequence[int], epsilon: float) -> Value:
    centred = compute(to, "SUB", value, mean(to, value, axes))
    return compute(to, "MUL", centred, _inverse_root(to, centred, axes, epsilon))


def _instance_normalization(node: Node, to: Builder, value: Value) -> Value:
    """Over the spatial axes."""
    made = _normalized(to, value, range(2, value.rank), node.attribute("epsilon", 1e-5))
    return _per_channel(node, to, made)


def _group_normalization(node: Node, to: Builder, value: Value) -> Value:
    """Over the spatial axes and the channels of a group."""
    groups, epsilon = node.attribute("num_groups"), node.attribute("epsilon", 1e-5)
    batch, channels = value.shape[:2]
    each = channels // groups
    if value.perm == layout.channels_last(value.rank):
        flat = to.reshaped(value.tensor, (batch, _places(value), groups, each))
        grouped = Value(flat, layout.identity(4), FLOAT)
        grouped = _normalized(to, grouped, (1, 3), epsilon)
        made = replace(value, tensor=to.reshaped(grouped.tensor, value.tensor.shape))
    else:
        grouped = reshaped(to, value, (batch, groups, each * _places(value)))
        made = reshaped(to, _normalized(to, grouped, (2,), epsilon), value.shape)
    return _per_channel(node, to, made, groups)


def _places(value: Value) -> int:
    return int(np.prod(value.shape[2:], dtype=np.int64))


def _per_channel(node: Node, to: Builder, value: Value, groups: int = 0) -> Value:
    """Times a scale, plus a bias: one for each channel, or (before opset 21) for each group."""
    along = (-1, *(1,) * (value.rank - 2))
    for at, kind in ((1, "MUL"), (2, "ADD")):
        given = to.require(node.input(at), "scale" if at == 1 else "bias")
        if groups and given.size == groups:
            given = given.repeat(value.shape[1] // groups)
        value = compute(to, kind, value, constant(to, given.reshape(along)))
    return value


def _lp_normalization(node: Node, to: Builder, value: Value) -> Value:
    """Divided by its norm along an axis; where that is 0, so is the result."""
    axis = node.attribute("axis", -1) % value.rank
    if node.attribute("p", 2) == 1:
        norm = reduced(to, "SUM", compute(to, "ABS", value), (axis,))
    else:
        norm = compute(to, "SQRT", reduced(to, "SUM", compute(to, "MUL", value, value), (axis,)))
    return compute(to, "DIV", value, compute(to, "MAXIMUM", norm, _TINY))


#: The smallest normal float32: what a norm of 0 is divided by instead.
_TINY = float(np.finfo(np.float32).tiny)


def _mean_variance_normalization(node: Node, to: Builder, value: Value) -> Value:
    """``(x - mean) / (deviation + 1e-9)``, as ONNX defines it."""
    axes = [axis % value.rank for axis in node.attribute("axes", [0, 2, 3])]
    centred = compute(to, "SUB", value, mean(to, value, axes))
    deviation = compute(to, "SQRT", mean(to, compute(to, "MUL", centred, centred), axes))
    return compute(to, "DIV", centred, compute(to, "ADD", deviation, 1e-9))


def _local_response_normalization(node: Node, to: Builder, value: Value) -> Value:
    """A builtin operator where as many channels count on either side, else put together."""
    size = node.attribute("size")
    alpha, beta = node.attribute("alpha", 1e-4), node.attribute("beta", 0.75)
    bias = node.attribute("bias", 1.0)
    value = ordered(to, value, layout.channels_last(value.rank))
    if size % 2 and value.rank == 4:
        return compute(
            to,
            "LOCAL_RESPONSE_NORMALIZATION",
            value,
            radius=size // 2,
            bias=bias,
            alpha=alpha / size,
            beta=beta,
        )
    channels = value.shape[1]
    at = np.arange(channels)
    apart = at[None, :] - at[:, None]  # of a neighbour (column) from a channel (row)
    near = (apart >= -((size - 1) // 2)) & (apart <= size // 2)
    square = compute(to, "MUL", value, value)
    band = to.constant((near * (alpha / size)).astype(np.float32))
    sums = replace(value, tensor=fully_connected(to, square.tensor, band, None).tensor)
    base = compute(to, "ADD", sums, bias)
    return compute(to, "DIV", value, compute(to, "POW", base, beta))


OPERATORS: dict[str, Lowering] = {
    "BatchNormalization": _on_floats(_batch_normalization),
    "GroupNormalization": _on_floats(_group_normalization),
    "InstanceNormalization": _on_floats(_instance_normalization),
    "LRN": _on_floats(_local_response_normalization),
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _on_floats(_lp_normalization),
    "MeanVarianceNormalization": _on_floats(_mean_variance_normalization),
    "RMSNormalization": _on_floats(_rms_normalization),
}
