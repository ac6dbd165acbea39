"""Operators that TFLite lacks, composed of ones that it has: a small algebra on float values.

Axes are counted in ONNX's order throughout; where they are stored stays an affair of the values.
No size of the first axis is written down, so that a batch stays free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.broadcast import align
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.layout import Perm

__all__ = [
    "casted",
    "compute",
    "constant",
    "joined",
    "mean",
    "ordered",
    "polynomial",
    "reduced",
    "reshaped",
    "reversed_along",
    "strided",
]

Operand: TypeAlias = Value | float


def constant(to: Builder, data: np.ndarray | float, like: Value | None = None) -> Value:
    """A known value in ONNX's order of axes, of the dtype of another one."""
    array = np.asarray(data, np.float32 if like is None else like.dtype)
    return Value(to.constant(array), layout.identity(array.ndim), array.dtype)


def compute(to: Builder, kind: str, *operands: Operand, **options: float) -> Value:
    """An operator of one or two operands, broadcast; numbers are constants of the same dtype."""
    first = next(one for one in operands if isinstance(one, Value))
    values = [one if isinstance(one, Value) else constant(to, one, first) for one in operands]
    if len(values) == 1:
        tensor = first.tensor
        made = to.emit(kind, [tensor], tensor.shape, first.dtype, options=options)
        return replace(first, tensor=made)
    shape = np.broadcast_shapes(*(value.shape for value in values))
    tensors, perm = align(to, values, shape)
    stored = layout.apply(perm, shape)
    return Value(to.emit(kind, tensors, stored, first.dtype, options=options), perm, first.dtype)


def polynomial(to: Builder, value: Value, coefficients: Sequence[float]) -> Value:
    """Horner's scheme; the highest power comes first."""
    made = compute(to, "MUL", value, coefficients[0])
    for coefficient in coefficients[1:-1]:
        made = compute(to, "MUL", compute(to, "ADD", made, coefficient), value)
    return compute(to, "ADD", made, coefficients[-1])


def reduced(to: Builder, kind: str, value: Value, axes: Sequence[int]) -> Value:
    """A reduction that keeps its axes, with size 1."""
    order = tuple(sorted(layout.stored_axis(value.perm, axis) for axis in axes))
    shape = [1 if at in order else size for at, size in enumerate(value.tensor.shape)]
    made = to.emit(kind, [value.tensor, to.sizes(*order)], shape, value.dtype, keepDims=True)
    return replace(value, tensor=made)


def mean(to: Builder, value: Value, axes: Sequence[int]) -> Value:
    """The arithmetic mean over axes, kept with size 1."""
    return reduced(to, "MEAN", value, axes)


def casted(to: Builder, value: Value, dtype: type | np.dtype[np.generic]) -> Value:
    """The value in another dtype."""
    dtype = np.dtype(dtype)
    if value.dtype == dtype:
        return value
    made = to.emit("CAST", [value.tensor], value.tensor.shape, dtype)
    return Value(made, value.perm, dtype)


def ordered(to: Builder, value: Value, perm: Perm | None = None) -> Value:
    """The value stored in this order of axes (ONNX's own where none)."""
    perm = layout.identity(value.rank) if perm is None else perm
    return replace(value, tensor=to.stored(value, perm), perm=perm)


def reshaped(to: Builder, value: Value, shape: Sequence[int]) -> Value:
    """The same elements, in ONNX's order, in another shape."""
    tensor = to.reshaped(to.stored(value), shape)
    return Value(tensor, layout.identity(len(tensor.shape)), value.dtype)


def strided(
    to: Builder, value: Value, axis: int, begin: int, end: int, *, stride: int = 1
) -> Value:
    """Elements ``begin`` to ``end`` (not included) of one axis, every ``stride``-th."""
    at = layout.stored_axis(value.perm, axis)
    shape = list(value.tensor.shape)
    count = -(-(end - begin) // stride)
    if (begin, count, stride) == (0, shape[at], 1):
        return value
    begins, ends, strides = [0] * len(shape), [0] * len(shape), [1] * len(shape)
    begins[at], ends[at], strides[at] = begin, end, stride
    shape[at] = count
    made = to.emit(
        "STRIDED_SLICE",
        [value.tensor, to.sizes(*begins), to.sizes(*ends), to.sizes(*strides)],
        shape,
        like=value.tensor,
        endMask=sum(1 << one for one in range(len(shape)) if one != at),
    )
    return replace(value, tensor=made)


def joined(to: Builder, values: Sequence[Value], axis: int) -> Value:
    """Values one behind the other along an axis, as the first one is stored."""
    if len(values) == 1:
        return values[0]
    first = values[0]
    at = layout.stored_axis(first.perm, axis)
    tensors = [to.stored(value, first.perm) for value in values]
    shape = list(first.tensor.shape)
    shape[at] = sum(tensor.shape[at] for tensor in tensors)
    made = to.emit("CONCATENATION", tensors, shape, like=first.tensor, axis=at)
    return replace(first, tensor=made)


def reversed_along(to: Builder, value: Value, axis: int) -> Value:
    """The value with the elements of one axis in reverse."""
    at = layout.stored_axis(value.perm, axis)
    made = to.emit(
        "REVERSE_V2", [value.tensor, to.sizes(at)], value.tensor.shape, like=value.tensor
    )
    return replace(value, tensor=made)
