"""Channels of a graph's constants: which must go together, and which must stay.

Each index of each axis of each constant has a number here. What an operator demands of them is
written down as ties between numbers; the connected ones are found at the end, all at once.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["FIXED", "Channels", "Ids", "Layout", "Role", "Untraceable"]

#: Numbers of the channels along one axis of a tensor.
Ids: TypeAlias = npt.NDArray[np.int64]
#: For each axis of a tensor, its channels; None for an axis that holds none that could go.
Layout: TypeAlias = tuple[Ids | None, ...]
#: What an axis of a constant does with channels.
Role = Literal["other", "producer", "consumer", "norm_scale"]

#: Stands in ``Ids`` for an index that is no channel of a constant, and so must stay.
FIXED = -1


class Untraceable(Exception):  # noqa: N818 - not an error: the channels it touches stay
    """An operator does something with channels that is not followed."""


@dataclass
class Channels:
    """The numbers given out, and what was learnt about them.

    >>> channels = Channels()
    >>> rows, columns = channels.of("w", (2, 3))
    >>> channels.of("w", (2, 3))[1].tolist(), channels.where(int(columns[0]))
    ([2, 3, 4], ('w', 1, 0))
    >>> channels.tie(rows, columns[:2])
    >>> channels.freeze(columns[1:2])
    >>> labels, frozen = channels.classes()
    >>> labels.tolist(), frozen.tolist()
    ([0, 1, 0, 1, 4], [False, True, False, True, False])
    """

    count: int = 0
    _axes: list[tuple[str, int, int]] = field(default_factory=list)  # constant, axis, first number
    _layouts: dict[str, Layout] = field(default_factory=dict)
    _ties: list[tuple[Ids, Ids]] = field(default_factory=list)
    _frozen: list[Ids] = field(default_factory=list)
    _roles: dict[int, Role] = field(default_factory=dict)

    def of(self, constant: str, shape: tuple[int, ...]) -> Layout:
        """Return the numbers of a constant's channels, the same ones each time.

        An axis of one is left out: there, broadcasting and a single channel look alike.
        """
        if constant not in self._layouts:
            layout: list[Ids | None] = []
            for axis, size in enumerate(shape):
                if size <= 1:
                    layout.append(None)
                    continue
                layout.append(np.arange(self.count, self.count + size))
                self._axes.append((constant, axis, self.count))
                self.count += size
            self._layouts[constant] = tuple(layout)
        return self._layouts[constant]

    @property
    def layouts(self) -> dict[str, Layout]:
        """The numbers of all constants that were asked for."""
        return self._layouts

    def tie(self, left: Ids | None, right: Ids | None) -> None:
        """Say that two axes lose the same channels or none; one without channels freezes both.

        Raises Untraceable where their lengths differ.
        """
        if left is None or right is None:
            self.freeze(left)
            self.freeze(right)
            return
        if len(left) != len(right):
            raise Untraceable
        held = (left == FIXED) | (right == FIXED)
        self.freeze(left[held])
        self.freeze(right[held])
        self._ties.append((left[~held], right[~held]))

    def freeze(self, ids: Ids | None) -> None:
        """Say that these channels must stay."""
        if ids is not None:
            self._frozen.append(ids[ids != FIXED])

    def mark(self, ids: Ids | None, role: Role) -> None:
        """Say what the axis of these channels does; what was said first holds."""
        if ids is not None:
            for first in {self._axis_of(int(one))[2] for one in ids[ids != FIXED]}:
                self._roles.setdefault(first, role)

    def where(self, number: int) -> tuple[str, int, int]:
        """Return the constant, axis and index of a channel."""
        constant, axis, first = self._axis_of(number)
        return constant, axis, number - first

    def role(self, number: int) -> Role:
        """Return what was said of the channel's axis."""
        return self._roles.get(self._axis_of(number)[2], "other")

    def _axis_of(self, number: int) -> tuple[str, int, int]:
        return self._axes[bisect_right(self._axes, number, key=lambda axis: axis[2]) - 1]

    def classes(self) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Return for each channel the least number it is tied to, and whether it must stay.

        Connected components by hooking and pointer jumping (Shiloach and Vishkin, "An O(log n)
        parallel connectivity algorithm", Journal of Algorithms 3, 1982).
        """
        labels = np.arange(self.count)
        ends = [np.concatenate([tie[at] for tie in self._ties] or [labels[:0]]) for at in (0, 1)]
        while True:
            left, right = labels[ends[0]], labels[ends[1]]
            if np.array_equal(left, right):
                break
            np.minimum.at(labels, np.maximum(left, right), np.minimum(left, right))
            while not np.array_equal(labels, labels[labels]):
                labels = labels[labels]
        frozen = np.zeros(self.count, bool)
        if self._frozen:
            frozen[labels[np.concatenate(self._frozen)]] = True
        return labels, frozen[labels]
