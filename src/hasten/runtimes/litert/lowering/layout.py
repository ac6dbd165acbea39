"""Orders of axes: where an image's channels are, and what moving them costs.

A permutation here tells for each stored axis which ONNX axis it holds: an image that ONNX has as
batch, channels, height, width is stored as ``(0, 2, 3, 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "Perm",
    "apply",
    "channels_last",
    "identity",
    "moves_data",
    "stored_axis",
    "transposition",
]

Perm = tuple[int, ...]


def identity(rank: int) -> Perm:
    """The order of ONNX itself."""
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """Batch, then the spatial axes, then channels.

    >>> channels_last(4)
    (0, 2, 3, 1)
    """
    return (0, *range(2, rank), 1)


def apply(perm: Perm, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape as stored, of an ONNX shape.

    >>> apply((0, 2, 3, 1), (1, 3, 224, 224))
    (1, 224, 224, 3)
    """
    return tuple(shape[axis] for axis in perm)


def stored_axis(perm: Perm, axis: int) -> int:
    """Where the ONNX axis (which may be negative) is stored.

    >>> stored_axis((0, 2, 3, 1), -3)
    3
    """
    return perm.index(axis % len(perm))


def transposition(have: Perm, want: Perm) -> Perm:
    """What TRANSPOSE must be given to get from one order to another.

    >>> transposition((0, 1, 2, 3), (0, 2, 3, 1))
    (0, 2, 3, 1)
    >>> transposition((0, 2, 3, 1), (0, 1, 2, 3))
    (0, 3, 1, 2)
    """
    return tuple(have.index(axis) for axis in want)


def moves_data(transposed: Perm, shape: Sequence[int]) -> bool:
    """Whether a transposition changes the order of elements: moving axes of size 1 does not.

    >>> moves_data((0, 3, 1, 2), (1, 1, 1, 8)), moves_data((0, 3, 1, 2), (1, 2, 2, 8))
    (False, True)
    """
    order = [axis for axis in transposed if shape[axis] != 1]
    return order != sorted(order)
