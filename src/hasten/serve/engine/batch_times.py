"""How long a batch takes: an online model, t(b) = a + b*c between the sizes that were seen."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

__all__ = ["BatchTimes"]

#: Share of a new observation in the running mean: some sixteen batches of memory.
_WEIGHT = 1 / 16
#: Batches over which the tail is looked at, and how often it is looked at.
_WINDOW = 256
_EVERY = 32
_TAIL = 0.99
#: A batch must be this much better per row than a smaller one to be worth its latency.
_WORTH = 0.98


class BatchTimes:
    """Mean times by batch size, in nanoseconds, and how far the slowest of a hundred is above.

    Sizes that were never run are read off the line through the two nearest that were.

    >>> times = BatchTimes()
    >>> times.observe(1, 100.0)
    >>> times.observe(9, 180.0)
    >>> times.expect(5)
    140.0
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._mean_ns: dict[int, float] = {}
        self._ratios: deque[float] = deque(maxlen=_WINDOW)
        self._since = 0
        #: What to multiply an expectation with so that 99 of 100 batches are quicker.
        self.tail_factor = 1.0

    @property
    def known(self) -> bool:
        """Whether anything was observed yet."""
        return bool(self._sizes)

    def observe(self, size: int, time_ns: float) -> None:
        """Take in the time of one batch."""
        mean = self._mean_ns.get(size)
        if mean is None:
            insort(self._sizes, size)
            self._mean_ns[size] = float(time_ns)
            return
        self._ratios.append(time_ns / mean if mean else 1.0)
        self._mean_ns[size] = mean + (time_ns - mean) * _WEIGHT
        self._since += 1
        if self._since >= _EVERY:
            self._since = 0
            ranked = sorted(self._ratios)
            self.tail_factor = max(1.0, ranked[int(_TAIL * (len(ranked) - 1))])

    def expect(self, size: int) -> float:
        """Return the mean time of a batch of this size; 0 while nothing was observed."""
        mean = self._mean_ns.get(size)
        if mean is not None:
            return mean
        sizes = self._sizes
        if not sizes:
            return 0.0
        if len(sizes) == 1:
            return self._mean_ns[sizes[0]] * max(1.0, size / sizes[0])
        at = min(max(bisect_left(sizes, size), 1), len(sizes) - 1)
        low, high = sizes[at - 1], sizes[at]
        low_ns, high_ns = self._mean_ns[low], self._mean_ns[high]
        slope = max(0.0, (high_ns - low_ns) / (high - low))
        return max(low_ns + (size - low) * slope, 0.0)

    def worthwhile(self, sizes: tuple[int, ...]) -> int:
        """Return the smallest of rising ``sizes`` that no larger one clearly beats per row."""
        best = sizes[0]
        for size in sizes[1:]:
            if self.expect(size) / size < _WORTH * self.expect(best) / best:
                best = size
        return best

    def largest_within(self, sizes: tuple[int, ...], limit_ns: float) -> int:
        """Return the largest of rising ``sizes`` whose slow batches fit; the first if none does."""
        fitting = sizes[0]
        for size in sizes[1:]:
            if self.expect(size) * self.tail_factor > limit_ns:
                break
            fitting = size
        return fitting
