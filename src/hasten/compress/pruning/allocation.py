"""How many channels each group keeps: the least importance lost for what is saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hasten.compress.pruning.groups import ChannelMap
from hasten.compress.pruning.importance import Importances
from hasten.errors import RefusedError

__all__ = ["Cost", "Counts", "allocate", "constant_bytes", "floor", "most_important", "uniform"]

#: How many channels are left of each group, by its name.
Counts: TypeAlias = Mapping[str, int]
#: What a graph costs with so many channels: milliseconds, bytes.
Cost: TypeAlias = Callable[[Counts], float]

#: A group is not cut in more slices than this, each of one or more multiples.
_SLICES = 32


def uniform(sizes: Counts, ratio: float, multiple: int) -> dict[str, int]:
    """Take the same share of each group, to the nearest multiple and never all.

    >>> uniform({"a": 64, "b": 12, "c": 8}, ratio=0.5, multiple=8)
    {'a': 32, 'b': 8, 'c': 8}
    """
    return {
        name: min(size, max(floor(size, multiple), round(size * (1 - ratio) / multiple) * multiple))
        for name, size in sizes.items()
    }


def floor(size: int, multiple: int) -> int:
    """Return the least number of channels that a group keeps: one multiple, or what it has."""
    return min(size, multiple)


def most_important(values: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Return the places of the largest values in their order; the first ones among equals.

    >>> most_important(np.array([1.0, 5.0, 3.0, 3.0]), 2).tolist()
    [1, 2]
    """
    return np.sort(np.argsort(-values, kind="stable")[:count])


def allocate(
    importances: Importances,
    cost: Cost,
    goal: float,
    *,
    start: Counts,
    multiple: int,
) -> dict[str, int]:
    """Return the counts that cost no more than ``goal``, found slice by slice.

    Each turn takes the slice that loses the least importance for what it saves. What is left of a
    group is its share of the importance, and what is left of the graph the product over its groups,
    for a signal passes through all: so a slice loses the logarithm of the share, and no group is
    emptied. A slice is one multiple, or for a large group several, down to a floor of one multiple.
    Raises RefusedError with the least cost where the goal cannot be met.

    The idea of allocating by what a measured cost says is from Yang et al., "NetAdapt", ECCV 2018
    (arXiv 1804.03230).
    """
    left = {name: _shares_left(values) for name, values in importances.items()}
    counts = dict(start)
    now = cost(counts)
    while now > goal:
        best: tuple[float, str, int, float] | None = None
        for name, values in left.items():
            to, then = _cheaper(counts, name, (now, cost), len(values) - 1, multiple)
            if to < counts[name]:
                lost = math.log(values[counts[name]] / values[to])
                if best is None or lost / (now - then) < best[0]:
                    best = (lost / (now - then), name, to, then)
        if best is None:
            raise RefusedError(
                f"pruning channels reaches a cost of {now:.4g} at least, and the goal is {goal:.4g}"
            )
        _, name, counts[name], now = best
    return counts


def _shares_left(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return for each count from 0 to all which share of the importance the best channels have."""
    sums = np.concatenate([[0.0], np.cumsum(np.sort(values)[::-1])])
    # Channels that matter nothing at all still divide: a share is never zero but for no channels.
    return np.asarray(np.maximum(sums / max(float(sums[-1]), 1e-300), 1e-300))


def _cheaper(
    counts: Counts, name: str, costs: tuple[float, Cost], size: int, multiple: int
) -> tuple[int, float]:
    """Return the next count of a group that saves anything, and the cost there.

    ``costs`` are what is paid now, and the cost of other counts. Where nothing is saved down to the
    floor, the count and the cost are those there are.
    """
    now, cost = costs
    least = floor(counts[name], multiple)
    more = max(0, size // _SLICES // multiple * multiple - multiple)
    to = counts[name]
    while to > least:
        to = max(least, (to - 1) // multiple * multiple - more)
        then = cost({**counts, name: to})
        if then < now:
            return to, then
    return counts[name], now


def constant_bytes(found: ChannelMap) -> Cost:
    """Return the cost that is the bytes of the graph's constants."""
    from onnx import helper

    widths: dict[str, dict[int, list[tuple[str, int, int]]]] = {}
    for group in found.groups:
        for member in group.members:
            axes = widths.setdefault(member.constant, {})
            entry = (group.name, group.size, member.indices.shape[1])
            axes.setdefault(member.axis, []).append(entry)
    constants = [
        (
            helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize,
            [(size, widths.get(name, {}).get(axis, [])) for axis, size in enumerate(tensor.dims)],
        )
        for name, tensor in found.trace.constants.items()
    ]

    def cost(counts: Counts) -> float:
        total = 0.0
        for itemsize, axes in constants:
            total += itemsize * math.prod(
                size - sum((whole - counts[group]) * width for group, whole, width in entries)
                for size, entries in axes
            )
        return total

    return cost
