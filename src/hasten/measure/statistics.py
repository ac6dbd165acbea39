"""Ratios of paired times, their bootstrap intervals, and what may be said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TELLING_BLOCKS", "Interval", "Latency", "Verdict", "latency", "speedup", "verdict"]

Verdict = Literal["faster", "slower", "no measurable difference"]

_RESAMPLES = 2000
#: From so many blocks on, their spread says how processes differ.
TELLING_BLOCKS = 3
#: 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class Interval(msgspec.Struct, frozen=True):
    """A median with its 95 % confidence interval; for a speedup, above 1 is faster."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x [{self.low:.2f}, {self.high:.2f}]"


class Latency(msgspec.Struct, frozen=True):
    """Percentiles in milliseconds: of one run, or of one item for ``--target throughput``."""

    p50: float
    p90: float
    p99: float


def latency(times_ns: Sequence[float]) -> Latency:
    """Percentiles in milliseconds of times in nanoseconds.

    >>> latency([1e6, 2e6, 3e6]).p50
    2.0
    """
    p50, p90, p99 = np.percentile(np.asarray(times_ns, dtype=np.float64), [50, 90, 99]) / 1e6
    return Latency(float(p50), float(p90), float(p99))


def speedup(reference: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Interval:
    """How many times faster ``other`` is: the median over rounds of reference time / its time.

    Both hold blocks of rounds: ``reference[b][r]`` and ``other[b][r]`` are times from the same
    round, and each block had worker processes of its own. Rounds are paired, so that both have
    met the same weather. The interval is a percentile bootstrap with two levels, blocks first and
    rounds within them, because two processes of the same program differ by more than their rounds
    do (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013). A bootstrap of
    few blocks is too narrow (Hesterberg, What Teachers Should Know About the Bootstrap, 2015), so
    the interval also spans Student's t over the logarithms of the blocks' medians. One block tells
    nothing of how processes differ, and two next to nothing (one degree of freedom puts Student's
    t at 12.7, which would bury an eightfold gain): their intervals hold for those processes alone.

    >>> speedup([[2.0, 4.0, 6.0]], [[1.0, 2.0, 3.0]])
    Interval(median=2.0, low=2.0, high=2.0)

    Raises ValueError when there is no round in common.
    """
    ratios = [
        np.asarray(ours, dtype=np.float64)[:n] / np.asarray(theirs, dtype=np.float64)[:n]
        for ours, theirs in zip(reference, other, strict=False)
        if (n := min(len(ours), len(theirs)))
    ]
    if not ratios:
        raise ValueError("no round in common")
    median = float(np.median(np.concatenate(ratios)))
    ends = [median, *np.percentile(_bootstrap_medians(ratios), [2.5, 97.5])]
    if len(ratios) >= TELLING_BLOCKS:
        ends += _student_interval(np.array([np.median(block) for block in ratios]))
    return Interval(median, float(min(ends)), float(max(ends)))


def _bootstrap_medians(blocks: list[np.ndarray]) -> np.ndarray:
    random = np.random.default_rng(0)
    width = max(len(block) for block in blocks)
    padded = np.full((len(blocks), width), np.nan)
    for at, block in enumerate(blocks):
        padded[at, : len(block)] = block
    sizes = np.array([len(block) for block in blocks])
    chosen = random.integers(len(blocks), size=(_RESAMPLES, len(blocks)))
    rounds = (random.random((_RESAMPLES, len(blocks), width)) * sizes[chosen][..., None]).astype(
        int
    )
    drawn = padded[chosen[..., None], rounds]
    drawn[np.arange(width) >= sizes[chosen][..., None]] = np.nan
    return np.asarray(np.nanmedian(drawn.reshape(_RESAMPLES, -1), axis=1))


def _student_interval(medians: np.ndarray) -> tuple[float, float]:
    """Return the ends of the interval of the geometric mean, from one ratio a block."""
    logs = np.log(medians)
    error = logs.std(ddof=1) / np.sqrt(len(logs))
    half = _student_quantile(len(logs) - 1) * error
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


def _student_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t.

    Beyond the table by Cornish and Fisher's expansion, which is within 0.2 % there (Abramowitz and
    Stegun, Handbook of Mathematical Functions, 26.7.5).
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def verdict(measured: Interval, control: Interval | None = None) -> Verdict:
    """Say what an interval allows: a difference only where it excludes 1 and the A/A control.

    ``control`` is the interval of a pair that is the same on both sides, measured in the same
    rounds: what it calls a difference is the machine's doing, so a real one must lie beyond it.

    >>> verdict(Interval(1.04, 1.02, 1.06))
    'faster'
    >>> verdict(Interval(1.04, 1.02, 1.06), control=Interval(1.01, 0.99, 1.03))
    'no measurable difference'
    """
    low, high = (control.low, control.high) if control else (1.0, 1.0)
    if measured.low > max(1.0, high):
        return "faster"
    if measured.high < min(1.0, low):
        return "slower"
    return "no measurable difference"
