"""Orders of axes: TensorFlow Lite has an image's channels last, ONNX has them second.

A permutation here tells for each axis of the ONNX value which axis of the TensorFlow Lite tensor it
is: an image is ``(0, 3, 1, 2)`` where ONNX has its channels second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Perm", "apply", "channels_second", "identity", "transposition", "without"]

Perm = tuple[int, ...]
Size = TypeVar("Size")


def identity(rank: int) -> Perm:
    """The order of TensorFlow Lite itself."""
    return tuple(range(rank))


def channels_second(rank: int) -> Perm:
    """Batch, channels, then the spatial axes.

    >>> channels_second(4)
    (0, 3, 1, 2)
    """
    return (0, rank - 1, *range(1, rank - 1))


def apply(perm: Perm, shape: Sequence[Size]) -> tuple[Size, ...]:
    """Shape of the ONNX value, of a TensorFlow Lite shape.

    >>> apply((0, 3, 1, 2), (1, 224, 224, 3))
    (1, 3, 224, 224)
    """
    return tuple(shape[axis] for axis in perm)


def transposition(have: Perm, want: Perm) -> Perm:
    """What Transpose must be given to get from one order to another.

    >>> transposition((0, 3, 1, 2), (0, 1, 2, 3))
    (0, 2, 3, 1)
    """
    return tuple(have.index(axis) for axis in want)


def without(perm: Perm, axes: Sequence[int]) -> Perm:
    """The order of the axes that are left when some of the tensor's are gone.

    >>> without((0, 3, 1, 2), (1, 2))
    (0, 1)
    """
    left = [axis for axis in perm if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)
