"""Where Resize looks: for one axis, a matrix of how much each element counts for each output.

Source: the operator Resize of ONNX (opset 19) and its reference implementation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["Axis", "Interpolation", "nearest_of_tflite", "linear_of_tflite"]


@dataclass(frozen=True)
class Axis:
    """Sizes before and after, what ONNX takes for their ratio, and the region that is read."""

    size: int
    out: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Interpolation:
    """The attributes of a Resize."""

    mode: str
    coordinates: str
    rounding: str
    cubic_a: float
    antialias: bool
    exclude_outside: bool

    def places(self, axis: Axis) -> np.ndarray:
        """Coordinate in the operand of each element of the result.

        In float32 throughout, as ONNX Runtime has it: what is nearest may hang on the last bit.
        """
        at = np.arange(axis.out, dtype=np.float32)
        scale, size, half = np.float32(axis.scale), np.float32(axis.size), np.float32(0.5)
        length = scale * size
        centred = (at + half) / scale - half
        if self.coordinates == "half_pixel":
            return centred
        if self.coordinates == "asymmetric":
            return at / scale
        if self.coordinates == "align_corners":
            return at * (size - 1) / (length - 1) if length != 1 else 0 * at
        if self.coordinates == "pytorch_half_pixel":
            return centred if axis.out > 1 else 0 * at
        if self.coordinates == "half_pixel_symmetric":
            return centred + size / 2 * (1 - np.float32(axis.out) / length)
        if self.coordinates == "tf_crop_and_resize":
            begin, end = (np.float32(one) for one in axis.region)
            whole = (end - begin) * (size - 1)
            one = length == 1
            return whole / 2 + 0 * at if one else begin * (size - 1) + at * whole / (length - 1)
        raise Unsupported(f"resizes with coordinates {self.coordinates}")

    def outside(self, axis: Axis) -> np.ndarray:
        """Elements of the result that lie beyond the operand, for a cropped region alone."""
        if self.coordinates != "tf_crop_and_resize":
            return np.zeros(axis.out, np.bool_)
        places = self.places(axis)
        return (places < 0) | (places > axis.size - 1)

    def nearest(self, axis: Axis) -> np.ndarray:
        """Index of the element that is taken, where the mode is the nearest one."""
        places = self.places(axis)
        rounded = {
            "round_prefer_floor": np.ceil(places - 0.5),
            "round_prefer_ceil": np.floor(places + 0.5),
            "floor": np.floor(places),
            "ceil": np.ceil(places),
        }[self.rounding]
        return np.asarray(np.clip(rounded, 0, axis.size - 1).astype(np.int32))

    def matrix(self, axis: Axis) -> np.ndarray:
        """Weights, ``[out, size]``, where the mode is linear or cubic."""
        places = self.places(axis).astype(np.float64)
        scale = min(axis.scale, 1.0) if self.antialias else 1.0
        support = int(np.ceil((2 if self.mode == "cubic" else 1) / scale)) + 1
        near = np.floor(places).astype(np.int64)[:, None] + np.arange(-support, support + 2)
        distances = np.abs(near - places[:, None]) * scale
        weights = self._cubic(distances) if self.mode == "cubic" else np.clip(1 - distances, 0, 1)
        if self.exclude_outside:
            weights = np.where((near < 0) | (near >= axis.size), 0.0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
        matrix = np.zeros((axis.out, axis.size))
        rows = np.broadcast_to(np.arange(axis.out)[:, None], near.shape)
        np.add.at(matrix, (rows, np.clip(near, 0, axis.size - 1)), weights)
        return matrix

    def _cubic(self, distances: np.ndarray) -> np.ndarray:
        a, x = self.cubic_a, distances
        inner = ((a + 2) * x - (a + 3)) * x * x + 1
        outer = ((x - 5) * x + 8) * x * a - 4 * a
        return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))


def nearest_of_tflite(axis: Axis, *, corners: bool, half: bool) -> np.ndarray:
    """Index that RESIZE_NEAREST_NEIGHBOR takes, in its own float32.

    Source: ``GetNearestNeighbor`` in LiteRT's ``kernels/internal/reference``.
    """
    scale = _scale_of_tflite(axis, corners=corners)
    places = (np.arange(axis.out, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    found = np.floor(places + np.float32(0.5)) if corners else np.floor(places)
    return np.asarray(np.clip(found, 0, axis.size - 1).astype(np.int32))


def linear_of_tflite(axis: Axis, *, corners: bool, half: bool) -> np.ndarray:
    """Weights, ``[out, size]``, that RESIZE_BILINEAR gives, in its own float32.

    Source: ``ComputeInterpolationValues`` in LiteRT's ``kernels/internal/reference``.
    """
    scale = _scale_of_tflite(axis, corners=corners)
    at = np.arange(axis.out, dtype=np.float32)
    places = (at + np.float32(0.5)) * scale - np.float32(0.5) if half else at * scale
    low = np.clip(np.floor(places), 0, axis.size - 1).astype(np.int64)
    high = np.clip(np.ceil(places), 0, axis.size - 1).astype(np.int64)
    part = places - low
    matrix = np.zeros((axis.out, axis.size))
    np.add.at(matrix, (np.arange(axis.out), low), 1 - part)
    np.add.at(matrix, (np.arange(axis.out), high), part)
    return matrix


def _scale_of_tflite(axis: Axis, *, corners: bool) -> np.float32:
    if corners and axis.out > 1:
        return np.float32(axis.size - 1) / np.float32(axis.out - 1)
    return np.float32(axis.size) / np.float32(axis.out)
