"""An HDR histogram: three significant digits of any time up to hours, in constant memory.

The buckets are log-linear: each power of two is divided into 1,024 equal ones, so a bucket is never
wider than a thousandth of what is in it (Gil Tene's HdrHistogram, https://hdrhistogram.org).
"""

from __future__ import annotations

from itertools import zip_longest

import msgspec

__all__ = ["Histogram"]

_BITS = 10
_SUB_BUCKETS = 1 << _BITS
#: Times of 2^43 ns, over two hours, and longer share the last bucket.
_MOST_BITS = 43
_BUCKETS = (_MOST_BITS - _BITS + 1) << _BITS


class Histogram(msgspec.Struct):
    """Counts of times in nanoseconds.

    >>> histogram = Histogram()
    >>> for time_ns in range(1, 101):
    ...     histogram.record(time_ns * 1_000_000)
    >>> histogram.percentile(50) / 1e6, histogram.percentile(99) / 1e6, histogram.count
    (50.003967, 99.024895, 100)
    """

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * _BUCKETS)
    #: The largest time that was recorded, exactly; 0 where there is none.
    largest_ns: int = 0

    def __repr__(self) -> str:
        return f"Histogram({self.count} times, the largest {self.largest_ns} ns)"

    def record(self, time_ns: int) -> None:
        """Count one time; a negative one counts as 0."""
        shift = time_ns.bit_length() - _BITS - 1
        try:
            if shift > 0:
                self.counts[(shift << _BITS) + (time_ns >> shift)] += 1
            else:
                self.counts[max(time_ns, 0)] += 1
        except IndexError:
            self.counts[-1] += 1
        if time_ns > self.largest_ns:  # noqa: PLR1730 - max() takes three times as long
            self.largest_ns = time_ns

    @property
    def count(self) -> int:
        """How many times were recorded."""
        return sum(self.counts)

    def percentile(self, percent: float, *, beyond: int = 0) -> int | None:
        """Return the time in ns that so many percent do not exceed, within a thousandth.

        ``beyond`` counts what took longer than all that was recorded, such as requests that were
        never answered; None is returned where the percentile falls among those, or there is none.

        >>> Histogram().percentile(50) is None
        True
        """
        count = self.count
        rank = max(1, -int(-(count + beyond) * percent // 100))
        if not 0 < rank <= count:
            return None
        if rank == count:
            return self.largest_ns
        seen = 0
        for index, here in enumerate(self.counts):
            seen += here
            if seen >= rank:
                return min(_last_of(index), self.largest_ns)
        return self.largest_ns

    def within(self, limit_ns: int) -> int:
        """Count the times in buckets that do not begin beyond ``limit_ns``."""
        shift = max(limit_ns.bit_length() - _BITS - 1, 0)
        index = min((shift << _BITS) + (limit_ns >> shift), _BUCKETS - 1)
        return sum(self.counts[: index + 1])

    def merged(self, other: Histogram) -> Histogram:
        """Return a histogram of the times of both."""
        pairs = zip_longest(self.counts, other.counts, fillvalue=0)
        return Histogram([a + b for a, b in pairs], max(self.largest_ns, other.largest_ns))


def _last_of(index: int) -> int:
    """Return the longest time of a bucket, in ns."""
    shift = max((index >> _BITS) - 1, 0)
    return ((index - (shift << _BITS) + 1) << shift) - 1
