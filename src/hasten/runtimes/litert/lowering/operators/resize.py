"""Resize and Upsample: a builtin operator where it looks where ONNX does, else axis by axis.

The nearest element is gathered by constant indices; what is interpolated otherwise is one product
with a constant matrix for each axis. Both say exactly what ONNX says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.composition import compute, constant, ordered
from hasten.runtimes.litert.lowering.interpolation import (
    Axis,
    Interpolation,
    linear_of_tflite,
    nearest_of_tflite,
)
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.matmul import fully_connected
from hasten.runtimes.litert.lowering.operators.pooling import requantizable
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]

#: What the builtin operators can be told: corners aligned, or centres at half a pixel.
_FLAGS = ((False, True), (False, False), (True, False))

#: TFLite's weights are float32: so far they may be from ONNX's.
_TOLERANCE = 1e-5


def _resize(node: Node, to: Builder) -> None:
    """Scales, sizes and region are constants."""
    value = to.value(node.input(0))
    how = Interpolation(
        node.attribute("mode", "nearest"),
        node.attribute("coordinate_transformation_mode", "half_pixel")
        if node.opset > 10
        else "asymmetric",
        node.attribute("nearest_mode", "round_prefer_floor") if node.opset > 10 else "floor",
        node.attribute("cubic_coeff_a", -0.75),
        bool(node.attribute("antialias", 0)),
        bool(node.attribute("exclude_outside", 0)),
    )
    axes = _axes(node, to, value)
    if how.mode == "nearest":
        to.bind_value(node.outputs[0], _nearest(to, value, how, axes))
        return
    if how.mode not in {"linear", "cubic"}:
        raise Unsupported(f"resizes with mode {how.mode}")
    made = _bilinear(node, to, value, how, axes)
    if made is None:
        made = _by_matrices(to, to.real(value), how, axes)
        made = _extrapolated(node, to, made, how, axes)
    to.bind_value(node.outputs[0], made)


def _upsample(node: Node, to: Builder) -> None:
    """What Resize was before opset 10: floor of the place, from the corner."""
    value = to.value(node.input(0))
    mode = node.attribute("mode", "nearest")
    how = Interpolation(mode, "asymmetric", "floor", -0.75, False, False)
    given = node.attribute("scales")
    scales = given if given is not None else to.require(node.input(1), "scales").tolist()
    axes = [
        Axis(size, out, scale)
        for size, out, scale in zip(value.shape, node.shape, scales, strict=True)
    ]
    if mode == "nearest":
        to.bind_value(node.outputs[0], _nearest(to, value, how, axes))
        return
    made = _bilinear(node, to, value, how, axes)
    to.bind_value(node.outputs[0], made or _by_matrices(to, to.real(value), how, axes))


def _axes(node: Node, to: Builder, value: Value) -> list[Axis]:
    """Each of ONNX's axes: those that are not named stay."""
    named = [axis % value.rank for axis in node.attribute("axes", list(range(value.rank)))]
    found = [Axis(size, size, 1.0) for size in value.shape]
    roi_at, scales_at = (1, 2) if node.opset > 10 else (-1, 1)
    scales = to.require(node.input(scales_at), "scales") if node.input(scales_at) else np.array([])
    region = np.array([])
    if roi_at > 0 and node.input(roi_at):
        region = to.require(node.input(roi_at), "region of interest")
    ratios = _ratios(node, to, value, named) if not scales.size else scales.tolist()
    for at, axis in enumerate(named):
        part = (0.0, 1.0)
        if region.size:
            part = (float(region[at]), float(region[at + len(named)]))
        size = value.shape[axis]
        out = int(np.float32(ratios[at]) * np.float32(size)) if scales.size else node.shape[axis]
        found[axis] = Axis(size, out, ratios[at], part)
    # In float32, as ONNX Runtime has it, 6 * (7 / 6) is 7; inference says 6.
    node.specs[0] = replace(node.specs[0], shape=tuple(axis.out for axis in found))
    return found


def _ratios(node: Node, to: Builder, value: Value, named: Sequence[int]) -> list[float]:
    """Ratios where sizes are given; one for all axes where the aspect is to be kept."""
    sizes = to.require(node.input(3), "list of sizes").tolist()
    ratios = [size / value.shape[axis] for axis, size in zip(named, sizes, strict=True)]
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return ratios
    kept = max(ratios) if policy == "not_smaller" else min(ratios)
    return [kept] * len(ratios)


def _changed(axes: Sequence[Axis]) -> list[int]:
    return [
        at
        for at, axis in enumerate(axes)
        if axis.size != axis.out or axis.scale != 1.0 or axis.region != (0.0, 1.0)
    ]


def _flags(to_match: Sequence[np.ndarray], made: Sequence[Sequence[np.ndarray]]) -> int | None:
    """Which way of the builtin operator gives these, on all axes."""
    for at, way in enumerate(made):
        if all(
            np.allclose(have, want, rtol=0, atol=_TOLERANCE)
            for have, want in zip(way, to_match, strict=True)
        ):
            return at
    return None


def _spatial(value: Value, axes: Sequence[Axis]) -> bool:
    return value.rank == 4 and set(_changed(axes)) <= {2, 3}


def _nearest(to: Builder, value: Value, how: Interpolation, axes: Sequence[Axis]) -> Value:
    if any(how.outside(axes[at]).any() for at in _changed(axes)):
        raise Unsupported("takes the nearest element of a region beyond the operand")
    plain = value.dtype != FLOAT and not value.tensor.quantization
    if value.tensor.quantization is not None and not value.tensor.quantization.per_tensor:
        value = to.real(value)
    if not plain and _spatial(value, axes):
        wanted = [how.nearest(axis) for axis in axes[2:]]
        ways = [
            [nearest_of_tflite(axis, corners=corners, half=half) for axis in axes[2:]]
            for corners, half in _FLAGS
        ]
        found = _flags(wanted, ways)
        if found is not None:
            return _builtin(to, "RESIZE_NEAREST_NEIGHBOR", value, axes, found)
    for at in _changed(axes):
        stored = layout.stored_axis(value.perm, at)
        shape = list(value.tensor.shape)
        shape[stored] = axes[at].out
        indices = to.constant(how.nearest(axes[at]))
        made = to.emit("GATHER", [value.tensor, indices], shape, like=value.tensor, axis=stored)
        value = replace(value, tensor=made)
    return value


def _bilinear(
    node: Node, to: Builder, value: Value, how: Interpolation, axes: Sequence[Axis]
) -> Value | None:
    """RESIZE_BILINEAR where its weights are ONNX's."""
    if how.mode != "linear" or how.antialias or not _spatial(value, axes):
        return None
    if any(how.outside(axes[at]).any() for at in _changed(axes)):
        return None
    wanted = [how.matrix(axis) for axis in axes[2:]]
    ways = [
        [linear_of_tflite(axis, corners=corners, half=half) for axis in axes[2:]]
        for corners, half in _FLAGS
    ]
    found = _flags(wanted, ways)
    if found is None:
        return None
    if not requantizable(node, to, value):
        value = to.real(value)
    if value.tensor.dtype not in {FLOAT, np.dtype(np.int8)}:
        return None
    return _builtin(to, "RESIZE_BILINEAR", value, axes, found)


def _builtin(to: Builder, kind: str, value: Value, axes: Sequence[Axis], way: int) -> Value:
    corners, half = _FLAGS[way]
    value = ordered(to, value, layout.channels_last(4))
    height, width = axes[2].out, axes[3].out
    batch, _, _, channels = value.tensor.shape
    made = to.emit(
        kind,
        [value.tensor, to.sizes(height, width)],
        (batch, height, width, channels),
        like=value.tensor,
        alignCorners=corners,
        halfPixelCenters=half,
    )
    return replace(value, tensor=made)


def _by_matrices(to: Builder, value: Value, how: Interpolation, axes: Sequence[Axis]) -> Value:
    """One product for each axis, which is stored last for it."""
    if value.dtype != FLOAT:
        raise Unsupported(f"interpolates {value.dtype}")
    for at in _changed(axes):
        order = (*(one for one in value.perm if one != at), at)
        data = to.stored(value, order)
        weights = to.constant(how.matrix(axes[at]).astype(np.float32))
        value = replace(value, tensor=fully_connected(to, data, weights, None).tensor, perm=order)
    return value


def _extrapolated(
    node: Node, to: Builder, value: Value, how: Interpolation, axes: Sequence[Axis]
) -> Value:
    """Elements that lie beyond the operand on any axis are one number."""
    beyond = np.zeros((1,) * value.rank, np.bool_)
    for at in _changed(axes):
        along = [1] * value.rank
        along[at] = -1
        beyond = beyond | how.outside(axes[at]).reshape(along)
    if not beyond.any():
        return value
    value = compute(to, "MUL", value, constant(to, 1.0 - beyond))
    return compute(
        to, "ADD", value, constant(to, beyond * node.attribute("extrapolation_value", 0.0))
    )


OPERATORS: dict[str, Lowering] = {"Resize": _resize, "Upsample": _upsample}
