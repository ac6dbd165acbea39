"""Measured numbers as text, with their unit and no more digits than were earned."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hasten.bundle.manifest import Interval

__all__ = ["ABSENT", "MetricUnit", "latency", "megabytes", "proportion", "significant", "speedup"]

#: What stands where nothing was measured.
ABSENT = "\N{EM DASH}"

_MINUS = "\N{MINUS SIGN}"

#: Metrics that are a share of the samples, so that their changes are percentage points.
_SHARES = frozenset({"top1", "fidelity", "agreement"})


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits and no exponent.

    >>> significant(2.4), significant(14.236), significant(1234.5)
    ('2.40', '14.2', '1234')
    """
    if not math.isfinite(value):
        return ABSENT
    return f"{value:.{_decimals(value, digits)}f}"


def latency(milliseconds: float | None) -> str:
    """Write a latency.

    >>> latency(0.16)
    '0.160 ms'
    """
    return ABSENT if milliseconds is None else f"{significant(milliseconds)} ms"


def megabytes(size_bytes: int | None) -> str:
    """Write a size in units of 1,000,000 bytes.

    >>> megabytes(3_612_345)
    '3.61 MB'
    """
    return ABSENT if size_bytes is None else f"{significant(size_bytes / 1e6)} MB"


def proportion(part: float, whole: float) -> str:
    """Write a part as a share of the whole, or nothing where the whole is zero.

    >>> proportion(3.6, 13.5)
    '27 %'
    """
    return f"{100 * part / whole:.0f} %" if whole else ""


def speedup(interval: Interval | None, digits: int = 3) -> str:
    """Write a speedup with its interval, both to the decimals that suit the median.

    >>> speedup(Interval(4.171, 3.9, 4.4)), speedup(Interval(0.0615, 0.0597, 0.0628))
    ('4.17x [3.90, 4.40]', '0.06x [0.06, 0.06]')
    """
    if interval is None:
        return ABSENT
    places = min(digits - 1, _decimals(interval.median, digits))
    low, high = (f"{bound:.{places}f}" for bound in (interval.low, interval.high))
    return f"{interval.median:.{places}f}x [{low}, {high}]"


def _decimals(value: float, digits: int) -> int:
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return max(0, digits - 1 - magnitude)


@dataclass(frozen=True)
class MetricUnit:
    """How a metric's values and their changes are written.

    >>> MetricUnit("top1").value(0.87042), MetricUnit("top1").change(0.0014)
    ('87.04 %', '+0.14 points')
    >>> MetricUnit("package:bleu").value(31.271)
    '31.27'
    """

    name: str

    @property
    def factor(self) -> int:
        """100 where the metric is shown in percent, else 1."""
        return 100 if self.name in _SHARES else 1

    @property
    def suffix(self) -> str:
        """The sign after a value, with its space."""
        return " %" if self.factor > 1 else ""

    def value(self, value: float | None) -> str:
        """Write a value of the metric."""
        if value is None or not math.isfinite(value):
            return ABSENT
        return f"{100 * value:.2f} %" if self.factor > 1 else significant(value, 4)

    def amount(self, amount: float) -> str:
        """Write a difference without its sign."""
        if self.factor > 1:
            return f"{abs(100 * amount):.2f} points"
        return f"{abs(amount):.4g}"

    def change(self, change: float | None) -> str:
        """Write a difference with its sign; a loss is negative."""
        if change is None or not math.isfinite(change):
            return ABSENT
        text = self.amount(change)
        if float(text.split()[0]) == 0:
            return text
        return f"{'+' if change > 0 else _MINUS}{text}"

    def drop(self, drop: float | None, allowed: float) -> str:
        """Say how much was lost, or gained, of what was allowed to be lost."""
        if drop is None or not math.isfinite(drop):
            return f"not evaluated; a drop of {self.amount(allowed)} is allowed"
        if drop < 0:
            return f"gained {self.amount(drop)}; a drop of {self.amount(allowed)} was allowed"
        lost, limit = self.amount(drop), self.amount(allowed)
        return f"drop {lost.removesuffix(' points')} of {limit} allowed"
