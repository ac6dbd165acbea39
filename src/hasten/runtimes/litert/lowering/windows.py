"""Pooling of a value whose channels are stored last, for one, two and three dimensions.

A maximum over a box is that of maxima over its edges, and likewise a mean: three dimensions are
pooled as two and one, and a window with gaps as one axis after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.composition import compute, ordered, strided
from hasten.runtimes.litert.lowering.padding import SAME, VALID, Window, pad_tensor
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["AVERAGE", "MAX", "counts", "pooled", "steps"]

AVERAGE, MAX = "AVERAGE_POOL_2D", "MAX_POOL_2D"

#: Each of them is an operator in the file.
_MAX_SLICES = 64


def steps(window: Window) -> tuple[int, ...]:
    """How often the window fits along each axis, padding included."""
    whole = window.unpadded()
    return tuple(
        (size - reach) // stride + 1
        for size, reach, stride in zip(whole.size, whole.reach, whole.strides, strict=True)
    )


def counts(window: Window, ends: Sequence[int] | None = None) -> list[np.ndarray]:
    """Elements in each window, along each axis: of the image, or with this padding beyond it."""
    found = []
    for axis, size in enumerate(window.size):
        low, high = (0, size) if ends is None else (-window.begins[axis], size + ends[axis])
        starts = np.arange(steps(window)[axis]) * window.strides[axis] - window.begins[axis]
        taken = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        found.append(np.asarray(((taken >= low) & (taken < high)).sum(axis=1)))
    return found


def pooled(to: Builder, kind: str, value: Value, window: Window, fill: float | None) -> Value:
    """Maxima or means; padding that TFLite does not name is filled with a number, or with zeros.

    Means count what was filled, but not what TFLite's own SAME pads.
    """
    value = ordered(to, value, layout.channels_last(value.rank))
    natural = not any(gap > 1 for gap in window.dilations)
    if natural and window.same and not window.valid and (kind == MAX or fill is None):
        return _of_rank(to, kind, value, window, SAME)
    if not window.valid:
        around = [(0, 0), *zip(window.begins, window.ends, strict=True), (0, 0)]
        value = replace(value, tensor=pad_tensor(to, value.tensor, around, fill or None))
        window = window.unpadded()
    if natural:
        return _of_rank(to, kind, value, window, VALID)
    return _by_slices(to, kind, value, window)


def _of_rank(to: Builder, kind: str, value: Value, window: Window, padding: int) -> Value:
    shape, out = value.tensor.shape, steps(window)
    batch, channels = shape[0], shape[-1]
    if len(out) == 1:
        flat = to.reshaped(value.tensor, (batch, 1, shape[1], channels))
        made = _pool(to, kind, flat, window.with_height(), padding)
    elif len(out) == 2:
        made = _pool(to, kind, value.tensor, window, padding)
    elif len(out) == 3:
        flat = to.reshaped(value.tensor, (batch * shape[1], *shape[2:]))
        flat = _pool(to, kind, flat, _cut(window, slice(1, 3)), padding)
        flat = to.reshaped(flat, (batch, shape[1], out[1] * out[2], channels))
        made = _pool(to, kind, flat, _over_depth(window, out[1] * out[2]), padding)
    else:
        raise Unsupported(f"pools {len(out)} dimensions")
    return replace(value, tensor=to.reshaped(made, (batch, *out, channels)))


def _pool(to: Builder, kind: str, data: Tensor, window: Window, padding: int) -> Tensor:
    return to.emit(
        kind,
        [data],
        (data.shape[0], *steps(window), data.shape[-1]),
        like=data,
        padding=padding,
        strideH=window.strides[0],
        strideW=window.strides[1],
        filterHeight=window.kernel[0],
        filterWidth=window.kernel[1],
    )


def _cut(window: Window, axes: slice) -> Window:
    return Window(
        window.size[axes],
        window.kernel[axes],
        window.strides[axes],
        window.dilations[axes],
        window.begins[axes],
        window.ends[axes],
    )


def _over_depth(window: Window, width: int) -> Window:
    """Along the first axis alone, of an image this wide."""
    deep = _cut(window, slice(0, 1))
    return Window(
        (*deep.size, width),
        (*deep.kernel, 1),
        (*deep.strides, 1),
        (*deep.dilations, 1),
        (*deep.begins, 0),
        (*deep.ends, 0),
    )


def _by_slices(to: Builder, kind: str, value: Value, window: Window) -> Value:
    """Axis by axis, as every n-th element from each of the window's places on."""
    if sum(window.kernel) > _MAX_SLICES:
        raise Unsupported(f"pools with a dilated window of {list(window.kernel)}")
    join = "MAXIMUM" if kind == MAX else "ADD"
    for axis, (count, size) in enumerate(zip(steps(window), window.kernel, strict=True)):
        stride, gap = window.strides[axis], window.dilations[axis]
        reach = (count - 1) * stride + 1
        parts = [
            strided(to, value, axis + 2, at * gap, at * gap + reach, stride=stride)
            for at in range(size)
        ]
        value = reduce(lambda one, other: compute(to, join, one, other), parts)
    if kind == AVERAGE:
        value = compute(to, "MUL", value, 1.0 / float(np.prod(window.kernel)))
    return value
