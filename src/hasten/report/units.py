"""Measured numbers as text, with their unit and no more digits than were earned."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hasten.bundle.manifest import Interval
from hasten.data import counts_errors, is_share

__all__ = ["ABSENT", "MetricUnit", "latency", "megabytes", "proportion", "significant", "speedup"]

#: What stands where nothing was measured.
ABSENT = "\N{EM DASH}"

_MINUS = "\N{MINUS SIGN}"


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

    A metric that counts errors has the negative for its value, and is written as the error is.

    >>> MetricUnit("top1").value(0.87042), MetricUnit("top1").change(0.0014)
    ('87.04 %', '+0.14 points')
    >>> MetricUnit("package:bleu").value(31.271)
    '31.27'
    >>> MetricUnit("mae").value(-0.25), MetricUnit("mae").change(-0.02)
    ('0.2500', '+0.02')
    """

    name: str

    @property
    def factor(self) -> int:
        """What values are multiplied with: 100 for percent, negative where errors are counted."""
        size = 100 if is_share(self.name) else 1
        return -size if counts_errors(self.name) else size

    @property
    def suffix(self) -> str:
        """The sign after a value, with its space."""
        return " %" if is_share(self.name) else ""

    def value(self, value: float | None) -> str:
        """Write a value of the metric."""
        if value is None or not math.isfinite(value):
            return ABSENT
        shown = self.factor * value + 0.0  # no minus before a zero
        return f"{shown:.2f} %" if is_share(self.name) else significant(shown, 4)

    def amount(self, amount: float) -> str:
        """Write a difference without its sign."""
        if is_share(self.name):
            return f"{abs(100 * amount):.2f} points"
        return f"{abs(amount):.4g}"

    def change(self, change: float | None) -> str:
        """Write a difference of scores as that of what is shown; a loss grows an error."""
        if change is None or not math.isfinite(change):
            return ABSENT
        text = self.amount(change)
        if float(text.split()[0]) == 0:
            return text
        return f"{'+' if change * self.factor > 0 else _MINUS}{text}"

    def drop(self, drop: float | None, allowed: float) -> str:
        """Say how much was lost, or gained, of what was allowed to be lost."""
        word = "rise" if counts_errors(self.name) else "drop"
        if drop is None or not math.isfinite(drop):
            return f"not evaluated; a {word} of {self.amount(allowed)} is allowed"
        if drop < 0:
            gained = "fell by" if counts_errors(self.name) else "gained"
            return f"{gained} {self.amount(drop)}; a {word} of {self.amount(allowed)} was allowed"
        lost, limit = self.amount(drop), self.amount(allowed)
        return f"{word} {lost.removesuffix(' points')} of {limit} allowed"
