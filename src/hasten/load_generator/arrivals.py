"""When requests are meant to be sent: evenly, at random, or as they were recorded.

An arrival is decided before the run and by nothing that the server does. That is what makes a load
open: a server that stalls is asked all the same.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hasten.errors import DataError
from hasten.plain_file import read_plain_text

__all__ = ["Arrivals", "Constant", "Poisson", "Replay", "read_arrivals"]

_SECOND_NS = 1_000_000_000


class Constant(msgspec.Struct, frozen=True, tag=True):
    """One arrival every 1 / ``rate_per_s``.

    >>> list(itertools.islice(Constant(1000).offsets_ns(), 3))
    [0, 1000000, 2000000]
    """

    rate_per_s: float

    def offsets_ns(self) -> Iterator[int]:
        """Yield the time of each arrival, in ns from the start, for ever."""
        for count in itertools.count():
            yield int(count * _SECOND_NS / self.rate_per_s)


class Poisson(msgspec.Struct, frozen=True, tag=True):
    """Arrivals that know nothing of each other: the gaps are exponential.

    The stream is the seed's own: the same seed gives the same arrivals.
    """

    rate_per_s: float
    seed: int = 0

    def offsets_ns(self) -> Iterator[int]:
        """Yield the time of each arrival, in ns from the start, for ever."""
        draw = random.Random(f"arrivals {self.seed}").expovariate  # noqa: S311 - no secret
        mean_gap_ns = _SECOND_NS / self.rate_per_s
        at_ns = 0.0
        while True:
            at_ns += draw(1.0) * mean_gap_ns
            yield int(at_ns)


class Replay(msgspec.Struct, frozen=True, tag=True):
    """Arrivals as they were recorded, in ns from the first one's clock; in ascending order."""

    recorded_ns: tuple[int, ...]

    @property
    def rate_per_s(self) -> float:
        """The mean rate of the recording."""
        return len(self.recorded_ns) * _SECOND_NS / max(self.recorded_ns[-1], 1)

    def offsets_ns(self) -> Iterator[int]:
        """Yield the time of each arrival, in ns from the start, once."""
        yield from self.recorded_ns


Arrivals = Constant | Poisson | Replay


def read_arrivals(path: Path) -> Replay:
    """Read a recording: the time of one arrival a line, in seconds, the earliest first.

    Blank lines and what follows ``#`` do not count. Times count from the first line's, unless that
    is below 60 s; then from 0. Raises OptionError where there is no such file, and DataError for a
    line that is no time or earlier than the one before it.
    """
    text = read_plain_text(path, expected="constant, poisson or a file of arrivals")
    found: list[float] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].strip()
        if words:
            found.append(_time_of(words, found[-1] if found else 0.0, f"{path}, line {number}"))
    if not found:
        raise DataError(expected="one time in seconds a line", got="none", where=str(path))
    start = found[0] if found[0] >= _CLOCK_FROM_S else 0.0
    return Replay(tuple(int((at - start) * _SECOND_NS) for at in found))


#: A recording whose first time is this late was made by a clock, not counted from a start.
_CLOCK_FROM_S = 60.0


def _time_of(words: str, before: float, where: str) -> float:
    try:
        at = float(words)
    except ValueError:
        at = float("nan")
    if not before <= at < float("inf"):
        raise DataError(
            expected=f"a time in seconds, {before:g} or later", got=repr(words), where=where
        )
    return at
