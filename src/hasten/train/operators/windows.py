"""Padding and sliding windows, shared by convolutions and pooling."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.train.operators.table import Node

__all__ = ["around", "is_symmetric", "padding"]


def padding(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return what a convolution or a pooling pads before and after each spatial axis.

    ``sizes`` are those of the input's spatial axes, ``kernel`` those of the window.
    """
    rank = len(sizes)
    how = node.text("auto_pad", "NOTSET")
    if how == "NOTSET":
        pads = node.integers("pads", [0] * 2 * rank)
        return pads[:rank], pads[rank:]
    if how == "VALID":
        return [0] * rank, [0] * rank
    strides = node.integers("strides", [1] * rank)
    dilations = node.integers("dilations", [1] * rank)
    total = [
        max((-(-size // stride) - 1) * stride + (side - 1) * dilation + 1 - size, 0)
        for size, side, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    less, more = [each // 2 for each in total], [each - each // 2 for each in total]
    return (less, more) if how == "SAME_UPPER" else (more, less)


def is_symmetric(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether both ends get the same: torch's own operators pad so."""
    return list(before) == list(after)


def around(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Return pads as ``torch.nn.functional.pad`` takes them: the last axis first.

    >>> around([1, 2], [3, 4])
    [2, 4, 1, 3]
    """
    pairs = list(zip(before, after, strict=True))
    return [side for pair in reversed(pairs) for side in pair]
