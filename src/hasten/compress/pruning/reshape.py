"""Channels through a reshape: axes that are kept, merged into one, or divided."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hasten.compress.pruning.channels import FIXED, Channels, Ids, Layout, Untraceable

__all__ = ["reshaped"]

#: Stands for the one size that is free, while sizes are matched: larger than any product of others
#: that it could be taken for, and prime.
_FREE = 2_147_483_647


def reshaped(
    channels: Channels,
    layout: Layout,
    before: Sequence[int | str | None],
    after: Sequence[int | str | None],
) -> Layout:
    """Return the layout of a tensor that was reshaped, and note what that ties.

    A channel that is merged with other axes goes with all its values, as when [n, c, h, w] becomes
    [n, c * h * w]. Where an axis is divided, the outermost part keeps the channels and what is
    inside goes together: [n, t, heads * d] becomes [n, t, heads, d], and whole heads can go.

    Raises Untraceable where more than one size is free on a side.
    """
    sizes = _sizes(before), _sizes(after)
    sizes = _with_free(*sizes)
    out: list[Ids | None] = [None] * len(after)
    for sources, targets in _factors(*sizes):
        tracked = [axis for axis in sources if layout[axis] is not None]
        if len(tracked) != 1 or not targets:
            for axis in tracked:
                channels.freeze(layout[axis])
        elif len(targets) == 1:
            out[targets[0]] = _merged(channels, layout, tracked[0], sources, sizes[0])
        elif len(sources) == 1:
            out[targets[0]] = _divided(channels, layout[tracked[0]], sizes[1][targets[0]])
        else:
            channels.freeze(layout[tracked[0]])
    return tuple(out)


def _sizes(shape: Sequence[int | str | None]) -> list[int]:
    return [size if isinstance(size, int) else 0 for size in shape]


def _with_free(before: list[int], after: list[int]) -> tuple[list[int], list[int]]:
    """Give the free size, 0, of each side a number with which their products agree."""
    if before.count(0) > 1 or after.count(0) > 1:
        raise Untraceable
    known = [math.prod(size for size in sizes if size) for sizes in (before, after)]
    if (0 in before) != (0 in after) or (0 not in before and known[0] != known[1]):
        raise Untraceable
    if 0 not in before:
        return before, after
    ratio, rest = divmod(known[0], known[1])
    free = (_FREE, _FREE * ratio)
    if rest:
        ratio, rest = divmod(known[1], known[0])
        if rest:
            raise Untraceable
        free = (_FREE * ratio, _FREE)
    return [size or free[0] for size in before], [size or free[1] for size in after]


def _factors(before: list[int], after: list[int]) -> list[tuple[list[int], list[int]]]:
    """Divide the axes of both sides into the shortest runs whose products agree.

    Axes of one belong to no run.

    >>> _factors([5, 6, 2, 2], [5, 24]), _factors([7, 12], [7, 1, 3, 4])
    ([([0], [0]), ([1, 2, 3], [1])], [([0], [0]), ([1], [2, 3])])
    """
    sources = [axis for axis, size in enumerate(before) if size != 1]
    targets = [axis for axis, size in enumerate(after) if size != 1]
    runs = []
    while sources:
        left, right = [sources.pop(0)], [targets.pop(0)]
        products = [before[left[0]], after[right[0]]]
        while products[0] != products[1]:
            if products[0] < products[1]:
                left.append(sources.pop(0))
                products[0] *= before[left[-1]]
            else:
                right.append(targets.pop(0))
                products[1] *= after[right[-1]]
        runs.append((left, right))
    return runs


def _merged(
    channels: Channels, layout: Layout, axis: int, sources: Sequence[int], sizes: Sequence[int]
) -> Ids | None:
    """Spread the channels of one axis over the axis that it is merged into."""
    ids = layout[axis]
    if ids is None or any(sizes[other] >= _FREE for other in sources):
        channels.freeze(ids)
        return None
    along = [-1 if other == axis else 1 for other in sources]
    shape = [sizes[other] for other in sources]
    return np.broadcast_to(ids.reshape(along), shape).reshape(-1)


def _divided(channels: Channels, ids: Ids | None, parts: int) -> Ids | None:
    """Tie what stands in each part of a divided axis; each part is one channel from here on."""
    if ids is None or parts >= _FREE:
        channels.freeze(ids)
        return None
    blocks = ids.reshape(parts, -1)
    for column in blocks.T[1:]:
        channels.tie(blocks[:, 0], column)
    held = (blocks == FIXED).any(axis=1)
    channels.freeze(blocks[held].reshape(-1))
    return np.where(held, FIXED, blocks[:, 0])
