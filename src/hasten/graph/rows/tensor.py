"""What is known of a tensor: its shape for two numbers of rows, its values, and where rows lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

__all__ = [
    "FIXED",
    "ROW_COUNTS",
    "SIZED",
    "Fixed",
    "Flow",
    "Joined",
    "Rows",
    "Sized",
    "Tensor",
    "Unclear",
    "by_row",
    "grown_axis",
    "known",
    "split_rows",
]

#: A graph is gone through with both numbers of rows at once: a dimension that grows with the rows
#: is told from one that does not by what it is in each. Primes, so that few others divide them.
ROW_COUNTS = (7, 11)

Shape = tuple[int, ...]


class Rows(NamedTuple):
    """Each row of the inputs has a part of its own along ``axis``, made of that row alone.

    The axis is ``outer`` blocks, each with a part of every row in their order: [outer, rows, m] if
    it were split.
    """

    axis: int
    outer: int = 1


class Fixed(NamedTuple):
    """The same whatever the rows hold, and however many there are."""


class Sized(NamedTuple):
    """The same whatever the rows hold, but not for each number of rows."""


class Joined(NamedTuple):
    """Rows were mixed: ``node`` did it, and ``why`` says how."""

    node: str
    why: str


class Unclear(NamedTuple):
    """The analysis cannot tell; ``node`` is where it stopped, and ``why`` the reason."""

    node: str
    why: str


Flow = Rows | Fixed | Sized | Joined | Unclear

FIXED = Fixed()
SIZED = Sized()


@dataclass(frozen=True, eq=False)
class Tensor:
    """One value of a graph.

    ``shapes`` are those for each of ROW_COUNTS, None where not known; so are ``values``, which are
    kept of what is computed from constants and from shapes.
    """

    kind: onnx.TypeProto | None
    shapes: tuple[Shape, Shape] | None
    flow: Flow
    values: tuple[NDArray[Any], NDArray[Any]] | None = None

    @property
    def rank(self) -> int:
        """The number of its axes; 0 where that is not known."""
        return len(self.shapes[0]) if self.shapes is not None else 0

    @property
    def value(self) -> NDArray[Any] | None:
        """Its value where that is the same for each number of rows."""
        if self.values is None or not _same(*self.values):
            return None
        return self.values[0]


def known(kind: onnx.TypeProto | None, values: tuple[NDArray[Any], NDArray[Any]]) -> Tensor:
    """Return a tensor of these values, one for each of ROW_COUNTS.

    One that repeats the same slice along an axis that grows with the rows, such as the zeros that
    a recurrent layer begins with, has a part for each row there.
    """
    few, many = values
    shapes = (few.shape, many.shape)
    flow: Flow = FIXED if _same(few, many) else SIZED
    grown = grown_axis(shapes) if isinstance(flow, Sized) else None
    if grown is not None and few.size:
        few_rows, many_rows = (
            by_row(value, grown, count) for value, count in zip(values, ROW_COUNTS, strict=True)
        )
        alike = all(bool((few_rows[:1] == rows).all()) for rows in (few_rows, many_rows))
        flow = Rows(grown) if alike else flow
    return Tensor(kind, shapes, flow, values)


def by_row(value: NDArray[Any], axis: int, count: int) -> NDArray[Any]:
    """Return [rows, ...] of a value that has a part for each of so many rows along an axis."""
    shape = value.shape
    split = value.reshape(*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :])
    return np.moveaxis(split, axis, 0)


def split_rows(shapes: tuple[Shape, Shape], rows: Rows) -> bool:
    """Whether an axis can hold parts of rows: it grows in proportion to them, and no other does."""
    if grown_axis(shapes) != rows.axis:
        return False
    return all(
        shape[rows.axis] % (count * rows.outer) == 0
        for shape, count in zip(shapes, ROW_COUNTS, strict=True)
    )


def grown_axis(shapes: tuple[Shape, Shape]) -> int | None:
    """Return the only axis that is not of one size; None unless it grows as the rows do."""
    few, many = shapes
    if len(few) != len(many):
        return None
    differ = [axis for axis, (one, other) in enumerate(zip(few, many, strict=True)) if one != other]
    if len(differ) != 1:
        return None
    (axis,) = differ
    in_step = few[axis] * ROW_COUNTS[1] == many[axis] * ROW_COUNTS[0]
    return axis if in_step and few[axis] % ROW_COUNTS[0] == 0 else None


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and bool(np.array_equal(one, other))
