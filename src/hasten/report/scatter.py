"""Latency against the metric, as geometry in pixels: the template draws it, this lays it out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hasten.bundle.manifest import CandidateRecord, Evidence, Side
from hasten.report.axis import Axis, Tick, linear_axis, log_axis
from hasten.report.labels import Box, Label, Request, place_labels, wrap
from hasten.report.units import MetricUnit, latency

__all__ = ["Mark", "Plot", "Scatter", "Strip", "scatter"]

#: A spread of latencies from which on equal ratios, not equal differences, are shown alike.
_LOG_SPREAD = 8.0
#: Where the axes end: so many allowed drops below the reference, and so many times the slowest
#: candidate with a metric. What lies farther stands on the border, so that it squeezes no one.
_DROPS_SHOWN, _TIMES_SHOWN = 4.0, 2.0
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 58.0, 14.0, 14.0, 46.0
_STRIP_ROWS, _STRIP_ROW_PX, _STRIP_GAP_PX = 3, 13.0, 26.0
_BORDER_PX = 12.0
_CROWD_PX = 18.0
_NARROW_PX = 500


@dataclass(frozen=True)
class Mark:
    """One candidate; ``below`` or ``beyond`` where it is worse or slower than the axes show."""

    label: str
    kind: str
    title: str
    latency_ms: float
    metric: float | None
    x: float = 0.0
    y: float = 0.0
    below: bool = False
    beyond: bool = False

    @property
    def rating(self) -> float:
        """The metric of a mark that is known to have one."""
        return self.metric or 0.0


@dataclass(frozen=True)
class Plot:
    """The candidates whose metric is known; ``frontier`` is an SVG path."""

    top: float
    bottom: float
    ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    labels: tuple[Label, ...]
    frontier: str
    budget_y: float | None


@dataclass(frozen=True)
class Strip:
    """The candidates that were timed and whose metric was not evaluated."""

    top: float
    bottom: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Scatter:
    """The whole chart; ``floor`` is where the axis of latencies lies."""

    width: float
    height: float
    left: float
    right: float
    floor: float
    x_axis: Axis
    plot: Plot | None
    strip: Strip | None

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Every mark of the chart."""
        return (self.plot.marks if self.plot else ()) + (self.strip.marks if self.strip else ())


def scatter(evidence: Evidence, width: float, height: float) -> Scatter | None:
    """Lay the chart out for so many pixels; None where nothing was timed."""
    marks = _marks(evidence)
    if not marks:
        return None
    rated = [mark for mark in marks if mark.metric is not None]
    unrated = [mark for mark in marks if mark.metric is None]
    strip_px = _STRIP_GAP_PX + _STRIP_ROWS * _STRIP_ROW_PX if unrated else 0.0
    if not rated:
        height = _TOP_PX + strip_px + _BOTTOM_PX
    right, floor = width - _RIGHT_PX, height - _BOTTOM_PX
    x_axis = _latency_axis(marks, rated, right)
    plot = _plot(rated, evidence, x_axis, floor - strip_px) if rated else None
    strip = _strip(unrated, x_axis, floor) if unrated else None
    return Scatter(width, height, _LEFT_PX, right, floor, x_axis, plot, strip)


def _marks(evidence: Evidence) -> list[Mark]:
    """Return a mark for each that was timed, the reference and the chosen last: drawn on top."""
    unit = MetricUnit(evidence.budget.metric)
    sides: dict[str, tuple[Side, str]] = {
        evidence.reference.label: (evidence.reference, "reference"),
        # Where nothing beat the reference, the two are one mark: the chosen.
        evidence.chosen.label: (evidence.chosen, "won"),
    }
    others: list[tuple[CandidateRecord | Side, str]] = [
        (r, r.status) for r in evidence.candidates if r.label not in sides
    ]
    drawn = [_mark(record, kind, unit) for record, kind in [*others, *sides.values()]]
    return [mark for mark in drawn if mark is not None]


def _mark(record: CandidateRecord | Side, kind: str, unit: MetricUnit) -> Mark | None:
    time = record.latency_ms
    if time is None or not math.isfinite(time.p50) or time.p50 <= 0:
        return None
    metric = record.metric if record.metric is not None and math.isfinite(record.metric) else None
    rating = f"{unit.name} not evaluated" if metric is None else f"{unit.name} {unit.value(metric)}"
    status = "chosen" if kind == "won" else kind.replace("_", " ")
    title = f"{record.label}\n{latency(time.p50)}, {rating} ({status})"
    return Mark(record.label, kind, title, time.p50, metric)


def _latency_axis(marks: Sequence[Mark], rated: Sequence[Mark], right: float) -> Axis:
    times = [mark.latency_ms for mark in marks]
    slowest_rated = max((mark.latency_ms for mark in rated), default=math.inf)
    low, high = min(times), min(max(times), _TIMES_SHOWN * slowest_rated)
    most_ticks = max(4, int(right / 80))
    if high / low > _LOG_SPREAD:
        return log_axis(low / 1.25, high * 1.25, _LEFT_PX, right, most_ticks=most_ticks)
    return linear_axis(0.0, high * 1.12, _LEFT_PX, right, most_ticks=most_ticks)


def _plot(rated: Sequence[Mark], evidence: Evidence, x_axis: Axis, bottom: float) -> Plot:
    unit = MetricUnit(evidence.budget.metric)
    allowed = _allowed(evidence)
    y_axis = _metric_axis(rated, allowed, evidence.budget.max_drop, unit, bottom)
    marks = tuple(_on_plot(mark, x_axis, y_axis, unit) for mark in rated)
    members = _frontier(marks)
    budget_y = None if allowed is None else y_axis.place(allowed * unit.factor)
    requests = _label_requests(marks, members, unit, x_axis.end)
    taken = [Box.around(mark.x, mark.y) for mark in marks]
    taken += _lines(members, budget_y, x_axis.end)
    if budget_y is not None:
        text = (f"least allowed: {unit.value(allowed)}",)
        requests.insert(0, Request(x_axis.end, budget_y + 10, text, "budget"))
    return Plot(
        top=_TOP_PX,
        bottom=bottom,
        ticks=y_axis.ticks,
        marks=marks,
        labels=tuple(place_labels(requests, taken, Box(_LEFT_PX, _TOP_PX, x_axis.end, bottom))),
        frontier=_staircase(members, x_axis.end),
        budget_y=budget_y,
    )


def _allowed(evidence: Evidence) -> float | None:
    """Return the lowest metric that the budget accepts."""
    metric = evidence.reference.metric
    if metric is None or not math.isfinite(metric):
        return None
    return metric - evidence.budget.max_drop


def _metric_axis(
    rated: Sequence[Mark], allowed: float | None, max_drop: float, unit: MetricUnit, bottom: float
) -> Axis:
    low, high = min(mark.rating for mark in rated), max(mark.rating for mark in rated)
    if allowed is not None:
        shown = allowed - (_DROPS_SHOWN - 1) * max_drop if max_drop > 0 else low
        low, high = min(allowed, max(low, shown)), max(high, allowed)
    spread = (high - low) or abs(high) * 0.05 or 0.05
    # More room above than below: there stand the labels of the best.
    low, high = (low - 0.12 * spread) * unit.factor, (high + 0.28 * spread) * unit.factor
    if low > high:  # errors: the smallest stand on top
        return linear_axis(high, low, _TOP_PX, bottom, most_ticks=7)
    return linear_axis(low, high, bottom, _TOP_PX, most_ticks=7)


def _on_plot(mark: Mark, x_axis: Axis, y_axis: Axis, unit: MetricUnit) -> Mark:
    value = mark.rating * unit.factor
    below = value < y_axis.low if unit.factor > 0 else value > y_axis.high
    y = y_axis.place(value) - (_BORDER_PX if below else 0.0)
    return replace(mark, x=x_axis.place(mark.latency_ms), y=y, below=below)


def _strip(unrated: Sequence[Mark], x_axis: Axis, floor: float) -> Strip:
    """Lay the marks in rows, each in the first row where it touches none to its left."""
    ends = [-math.inf] * _STRIP_ROWS
    laid = []
    for mark in sorted(unrated, key=lambda mark: mark.latency_ms):
        beyond = mark.latency_ms > x_axis.high
        x = x_axis.place(mark.latency_ms) - (_BORDER_PX if beyond else 0.0)
        free = [row for row, end in enumerate(ends) if x - end > _STRIP_ROW_PX]
        row = free[0] if free else ends.index(min(ends))
        ends[row] = x
        y = floor - (row + 0.5) * _STRIP_ROW_PX
        laid.append(replace(mark, x=x, y=y, beyond=beyond))
    return Strip(floor - _STRIP_ROWS * _STRIP_ROW_PX, floor, tuple(laid))


def _frontier(marks: Iterable[Mark]) -> list[Mark]:
    """Return the marks that no other beats in both latency and metric, from fast to slow."""
    sound = [mark for mark in marks if mark.kind not in {"failed", "refused"}]
    kept: list[Mark] = []
    for mark in sorted(sound, key=lambda mark: (mark.latency_ms, -mark.rating)):
        if not kept or mark.rating > kept[-1].rating:
            kept.append(mark)
    return kept


def _staircase(frontier: Sequence[Mark], right: float) -> str:
    """Return the SVG path: level until the next member is reached, then up to it."""
    if not frontier:
        return ""
    steps = [f"M{frontier[0].x} {frontier[0].y}"]
    steps += [f"H{mark.x}V{mark.y}" for mark in frontier[1:]]
    return "".join([*steps, f"H{right}"])


def _lines(frontier: Sequence[Mark], budget_y: float | None, right: float) -> list[Box]:
    """Return the room that the frontier and the budget's line take."""
    boxes = [] if budget_y is None else [Box(_LEFT_PX, budget_y - 1, right, budget_y + 1)]
    ends = [*(mark.x for mark in frontier[1:]), right]
    for mark, end in zip(frontier, ends, strict=False):
        boxes.append(Box(mark.x, mark.y - 1, end, mark.y + 1))
    for lower, upper in itertools.pairwise(frontier):
        boxes.append(Box(upper.x - 1, upper.y, upper.x + 1, lower.y))
    return boxes


def _crowded(mark: Mark, marks: Iterable[Mark]) -> bool:
    """Whether another mark stands so near that a label could be taken for its."""
    near = [m for m in marks if math.hypot(m.x - mark.x, m.y - mark.y) < _CROWD_PX]
    return len(near) > 1


def _label_requests(
    marks: Sequence[Mark], frontier: Sequence[Mark], unit: MetricUnit, right: float
) -> list[Request]:
    """Ask for labels: the chosen and the reference surely, the frontier where there is room."""
    letters = 20 if right < _NARROW_PX else 34
    named = {"won": "chosen", "reference": "reference"}
    chief = [mark for mark in reversed(marks) if mark.kind in named]
    below = [mark for mark in marks if mark.below]
    others = [
        mark
        for mark in frontier
        if mark.kind not in named and not mark.below and not _crowded(mark, marks)
    ]
    return [
        *(
            Request(m.x, m.y, (named[m.kind], *wrap(m.label, letters)), m.kind, required=True)
            for m in chief
        ),
        *(Request(m.x, m.y, (unit.value(m.metric),), m.kind) for m in below),
        *(Request(m.x, m.y, wrap(m.label, letters), m.kind) for m in others),
    ]
