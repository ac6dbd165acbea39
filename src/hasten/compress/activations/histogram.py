"""What a tensor's values look like, in constant memory: a histogram that grows with its range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hasten.errors import DataError, OptionError

__all__ = ["Histogram"]

#: Values are binned this many at a time, so that the scratch arrays stay in the L2 cache.
_CHUNK = 32_768
#: A bin is never narrower than float32's smallest normal, so that 1 / width is finite.
_MIN_EXPONENT = -126


class Histogram:
    """Counts of one tensor's values, streamed; memory does not grow with the number of values.

    There are ``bins`` (a power of two) on each side of zero, all of one width, itself a power of
    two: entry ``i`` of ``counts`` is of ``[(i - bins) * width, (i - bins + 1) * width)``. When a
    value falls outside, the width doubles until it fits and neighbours merge. As bins are aligned
    to zero and scaling by a power of two is exact, no count is ever split, and the result does not
    depend on the order of the values or how they were cut into batches. The side that reaches
    further uses at least half of its bins.

    >>> seen = Histogram(bins=4)
    >>> seen.add(np.array([0.5, 1.5, 3.5], dtype=np.float32))
    >>> seen.width, seen.counts.tolist()
    (1.0, [0, 0, 0, 0, 1, 1, 0, 1])
    >>> seen.add(np.array([-6.0], dtype=np.float32))
    >>> seen.width, seen.counts.tolist()
    (2.0, [0, 1, 0, 0, 2, 1, 0, 0])

    ``name`` is the tensor's, for messages. Raises OptionError if ``bins`` is no power of two.
    """

    def __init__(self, bins: int = 2048, *, name: str = "tensor") -> None:
        if bins < 1 or bins & (bins - 1):
            raise OptionError(expected="a power of two", got=str(bins), where="Histogram: bins")
        self.bins = bins
        self.name = name
        self.total = 0
        self.zeros = 0
        self.infinite = 0
        self._low = math.inf
        self._high = -math.inf
        self._exponent = _MIN_EXPONENT
        self._counts = np.zeros(2 * bins, np.int64)

    @property
    def low(self) -> float:
        """The smallest value seen, exactly; 0 where nothing was added."""
        return self._low if self.total else 0.0

    @property
    def high(self) -> float:
        """The largest value seen, exactly; 0 where nothing was added."""
        return self._high if self.total else 0.0

    @property
    def width(self) -> float:
        """Width of a bin, in the tensor's own unit."""
        return math.ldexp(1.0, self._exponent)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """A copy of the counts, int64[2 * bins]; values below zero come first."""
        return self._counts.copy()

    def add(self, array: npt.NDArray[Any]) -> None:
        """Count the values of a float array of any shape; an empty one adds nothing.

        Infinities have no bin: ``infinite`` says how many there were, and ``total`` leaves them
        out. Raises DataError if a value is NaN; then nothing of the array is counted.
        """
        values = np.ravel(array)
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float32)
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            values = self._finite(values)
            if not values.size:
                return
            low, high = float(values.min()), float(values.max())
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._widen(max(self._high, -self._low))
        self._count(values)
        self.total += values.size
        self.zeros += values.size - int(np.count_nonzero(values))

    def _finite(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        bad = int(np.count_nonzero(np.isnan(values)))
        if bad:
            raise DataError(
                expected="numbers", got=f"{bad} of {values.size} that are NaN", where=self.name
            )
        finite: npt.NDArray[Any] = values[np.isfinite(values)]
        self.infinite += values.size - finite.size
        return finite

    def _widen(self, magnitude: float) -> None:
        """Double the width until ``magnitude`` fits, merging neighbours."""
        if not magnitude:
            return
        needed = math.frexp(magnitude)[1] - self.bins.bit_length() + 1
        shift = needed - self._exponent
        if shift <= 0:
            return
        # An arithmetic shift rounds down, which is what floor(value / width) does as width doubles.
        merged = np.arange(-self.bins, self.bins) >> min(shift, 63)
        counts = np.zeros_like(self._counts)
        np.add.at(counts, merged + self.bins, self._counts)
        self._counts = counts
        self._exponent = needed

    def _count(self, values: npt.NDArray[Any]) -> None:
        # float32 times 1 / width is exact unless it underflows, which takes a width above 1.
        narrow = values.dtype == np.float32 and self._exponent <= 0
        dtype = np.float32 if narrow else np.float64
        inverse, offset = dtype(math.ldexp(1.0, -self._exponent)), dtype(self.bins)
        scaled = np.empty(min(_CHUNK, values.size), dtype)
        index = np.empty(scaled.size, np.intp)
        for start in range(0, values.size, _CHUNK):
            chunk = values[start : start + _CHUNK]
            part, slot = scaled[: chunk.size], index[: chunk.size]
            np.multiply(chunk, inverse, out=part)
            np.floor(part, out=part)
            np.add(part, offset, out=part)
            np.copyto(slot, part, casting="unsafe")
            self._counts += np.bincount(slot, minlength=2 * self.bins)
