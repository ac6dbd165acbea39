"""An axis of a chart: where a value lies, and which round values are marked on it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Axis", "Tick", "linear_axis", "log_axis"]

#: Mantissas of round numbers, from the densest set of ticks to the sparsest.
_LOG_MANTISSAS = ((1, 2, 5), (1, 3), (1,))
_LINEAR_STEPS = (1, 2, 5, 10)
_FEWEST_LOG_TICKS = 3


@dataclass(frozen=True)
class Tick:
    """A marked value: where it lies, in pixels, and what is written beside it."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A range of values laid over pixels; ``start`` may lie right of, or below, ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[Tick, ...] = ()

    def place(self, value: float) -> float:
        """Return the pixel of a value; values outside the range land on its border."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def linear_axis(low: float, high: float, start: float, end: float, *, most_ticks: int) -> Axis:
    """Lay ``low`` to ``high`` evenly over the pixels, with at most so many ticks.

    >>> [tick.text for tick in linear_axis(0, 14.2, 0, 100, most_ticks=5).ticks]
    ['0', '5', '10']
    """
    if high <= low:
        low, high = low - 0.5, low + 0.5
    bare = Axis(low, high, start, end, log=False)
    return _with_ticks(bare, _linear_values(low, high, most_ticks))


def log_axis(low: float, high: float, start: float, end: float, *, most_ticks: int) -> Axis:
    """Lay ``low`` to ``high`` over the pixels so that equal ratios are equal distances.

    >>> [tick.text for tick in log_axis(1.1, 26, 0, 100, most_ticks=5).ticks]
    ['2', '5', '10', '20']
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    bare = Axis(low, high, start, end, log=True)
    for mantissas in _LOG_MANTISSAS:
        values = [m * 10.0**decade for decade in decades for m in mantissas]
        values = [value for value in values if low <= value <= high]
        if len(values) <= most_ticks:
            break
    if len(values) < _FEWEST_LOG_TICKS:
        values = [value for value in _linear_values(low, high, most_ticks) if value > 0]
    return _with_ticks(bare, values)


def _linear_values(low: float, high: float, most: int) -> list[float]:
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * power for step in _LINEAR_STEPS if (high - low) / (step * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _with_ticks(axis: Axis, values: Iterable[float]) -> Axis:
    ticks = tuple(Tick(axis.place(value), f"{value:.6g}") for value in values)
    return Axis(axis.low, axis.high, axis.start, axis.end, axis.log, ticks)
