"""A bar per timed candidate and an interval per part of the plan, in percent of the width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hasten.bundle.manifest import CandidateRecord, Evidence, Interval, Latency

__all__ = ["Bar", "Span", "bars", "spans"]

#: Bars longer than so many references are cut, so that one slow candidate flattens no other.
_REFERENCES_SHOWN = 1.5
#: A whole that is never reached, so that ticks at the right end stay inside.
_FULL_PERCENT = 98.0


@dataclass(frozen=True)
class Bar:
    """One timed candidate; percentiles are in percent of the width, and None where cut off."""

    record: CandidateRecord
    latency_ms: Latency
    kind: str
    p50: float
    p90: float | None
    p99: float | None
    whisker: float
    cut: bool


@dataclass(frozen=True)
class Span:
    """An interval on an axis of ratios; ``one`` is where the ratio is 1, no change."""

    low: float
    median: float
    high: float
    one: float


def bars(evidence: Evidence) -> list[Bar]:
    """Return a bar for each candidate that was timed, from the fastest to the slowest."""
    timed = [
        (record.latency_ms, record)
        for record in _with_sides(evidence)
        if record.latency_ms is not None and math.isfinite(record.latency_ms.p50)
    ]
    timed.sort(key=lambda pair: pair[0].p50)
    slowest = max((time.p99 for time, _ in timed if math.isfinite(time.p99)), default=1.0)
    times = evidence.reference.latency_ms
    shown = _REFERENCES_SHOWN * times.p50 if math.isfinite(times.p50) else slowest
    limit = min(slowest, max(shown, times.p99)) or 1.0
    return [_bar(record, time, limit, evidence) for time, record in timed]


def _with_sides(evidence: Evidence) -> Iterable[CandidateRecord]:
    """Yield the candidates, and the reference and the chosen where they are not among them."""
    listed = {record.label for record in evidence.candidates}
    yield from evidence.candidates
    for side, status in ((evidence.reference, "lost"), (evidence.chosen, "won")):
        if side.label not in listed:
            listed.add(side.label)
            yield CandidateRecord(
                label=side.label,
                steps=(),
                runtime="",
                execution={},
                status="won" if status == "won" else "lost",
                latency_ms=side.latency_ms,
                metric=side.metric,
                size_bytes=side.size_bytes,
                peak_memory_bytes=side.peak_memory_bytes,
            )


def _bar(record: CandidateRecord, time: Latency, limit: float, evidence: Evidence) -> Bar:
    def percent(value: float) -> float | None:
        return round(_FULL_PERCENT * value / limit, 2) if value <= limit else None

    p50, p90, p99 = percent(time.p50), percent(time.p90), percent(time.p99)
    is_reference = record.label == evidence.reference.label != evidence.chosen.label
    return Bar(
        record=record,
        latency_ms=time,
        kind="reference" if is_reference else record.status,
        p50=_FULL_PERCENT if p50 is None else p50,
        p90=p90,
        p99=p99,
        whisker=_FULL_PERCENT if p99 is None else p99,
        cut=p50 is None,
    )


def spans(intervals: Sequence[Interval | None]) -> list[Span | None]:
    """Lay the intervals on one logarithmic axis, on which 1 is always shown."""
    bounds = [b for i in intervals if i for b in (i.low, i.median, i.high) if 0 < b < math.inf]
    low, high = math.log(min([*bounds, 0.9])), math.log(max([*bounds, 1.1]))

    def percent(ratio: float) -> float:
        share = (math.log(ratio) - low) / (high - low) if 0 < ratio < math.inf else 0.0
        return round(2 + 96 * share, 2)

    return [
        Span(percent(i.low), percent(i.median), percent(i.high), percent(1.0)) if i else None
        for i in intervals
    ]
