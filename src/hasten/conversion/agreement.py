"""How far the outputs of two sessions part, over samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from hasten.errors import RefusedError
from hasten.runtimes import Arrays

__all__ = ["Agreement", "Difference", "compare_outputs"]

Run = Callable[[Arrays], Arrays]

#: Kinds of dtypes whose values are numbers on a scale; of others it counts how many are the same.
_NARROW = frozenset({"int8", "uint8", "int16", "uint16"})


class Difference(msgspec.Struct, frozen=True):
    """How far one output parts.

    ``relative`` is the largest difference as a share of the output's largest value; of class
    numbers, indices and truth values it is the share that differs.
    """

    output: str
    relative: float


class Agreement(msgspec.Struct, frozen=True):
    """What was compared: ``left`` is what the numbers should be."""

    left: str
    right: str
    samples: int
    synthetic: bool
    allowed: float
    differences: tuple[Difference, ...]

    @property
    def largest(self) -> Difference:
        """The output that parts furthest."""
        return max(self.differences, key=lambda one: one.relative)

    def require(self, model: str) -> None:
        """Raise RefusedError where an output parts further than is allowed."""
        largest = self.largest
        if largest.relative <= self.allowed:
            return
        raise RefusedError(
            f"converting {model}: output {largest.output} of {self.right} differs from"
            f" {self.left} by {largest.relative:.2g} of its largest value, {self.allowed:g} is"
            f" allowed ({self.samples} samples); nothing was written"
        )


def compare_outputs(left: Run, right: Run, feeds: Iterable[Arrays]) -> tuple[Difference, ...]:
    """Run both on each feed; one difference for each output of ``left``."""
    apart: dict[str, float] = {}
    largest: dict[str, float] = {}
    for feed in feeds:
        wanted, found = left(feed), right(feed)
        for name, want in wanted.items():
            off, size = _apart(want, found[name])
            apart[name] = max(apart.get(name, 0.0), off)
            largest[name] = max(largest.get(name, 0.0), size)
    return tuple(Difference(name, _ratio(off, largest[name])) for name, off in apart.items())


def _ratio(off: float, size: float) -> float:
    return off / size if off and size else off


def _apart(want: np.ndarray, have: np.ndarray) -> tuple[float, float]:
    """The largest difference and the largest value; infinite where they cannot be compared."""
    if want.shape != have.shape or want.dtype != have.dtype:
        return float("inf"), 1.0
    if want.size == 0:
        return 0.0, 1.0
    if want.dtype.kind in "biu" and want.dtype.name not in _NARROW:
        return float(np.mean(want != have)), 1.0
    exact, near = np.asarray(want, np.float64), np.asarray(have, np.float64)
    finite = np.isfinite(exact)
    if not np.array_equal(exact[~finite], near[~finite], equal_nan=True):
        return float("inf"), 1.0
    if not np.isfinite(near[finite]).all():
        return float("inf"), 1.0
    off = np.max(np.abs(exact[finite] - near[finite]), initial=0.0)
    return float(off), float(np.max(np.abs(exact[finite]), initial=0.0))
