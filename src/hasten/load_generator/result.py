"""What is said of a run: figures for a table, a page or JSON, and whether its goal was met."""

from __future__ import annotations

import msgspec

from hasten.load_generator.answers import AnswerCheck
from hasten.load_generator.confidence import confident
from hasten.load_generator.histogram import Histogram
from hasten.load_generator.record import Record
from hasten.load_generator.scenarios import Scenario

__all__ = ["LoadResult", "Percentiles", "late_or_missed", "percentiles", "result_of"]

#: Percentiles of the curve, from the median into the tail.
_CURVE = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)
_P99 = 99.0


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds; None where the percentile falls on a request that missed, or on none."""

    p50: float | None
    p90: float | None
    p99: float | None
    p99_9: float | None
    max: float | None


class LoadResult(msgspec.Struct, frozen=True):
    """One run against one server.

    ``latency_ms`` counts from the intended send, misses as endless; ``service_ms`` counts from the
    actual send, and hides what waited before it. ``figure`` is what the scenario is judged by:
    requests a second, samples a second, or the latency in ms at ``percent``. ``confident`` says
    whether there were enough requests to speak of the goal with 99 % confidence.
    """

    url: str
    model: str
    scenario: str
    arrivals: str
    concurrency: int | None
    offered_per_s: float | None
    samples_per_query: int
    duration_s: float
    seed: int
    data: str
    issued: int
    answered: int
    misses: dict[str, int]
    first_problem: str
    rate_per_s: float
    samples_per_s: float
    figure: float | None
    figure_unit: str
    latency_ms: Percentiles
    service_ms: Percentiles
    lag_ms: Percentiles
    curve_ms: list[tuple[float, float]]
    connections: int
    goal_p99_ms: float | None
    confident: bool | None
    answers: AnswerCheck | None
    unmet: list[str]
    void: str
    notes: list[str]


def percentiles(histogram: Histogram, beyond: int = 0) -> Percentiles:
    """Return the percentiles of times in ns as ms; ``beyond`` counts those that never ended."""
    at = [_ms(histogram, percent, beyond) for percent in (50, 90, 99, 99.9, 100)]
    return Percentiles(*at)


def _ms(histogram: Histogram, percent: float, beyond: int) -> float | None:
    found = histogram.percentile(percent, beyond=beyond)
    return None if found is None else found / 1e6


def late_or_missed(record: Record, goal_ns: int) -> int:
    """Count the requests that took longer than the goal, failed, were refused or given up."""
    return record.answered - record.latency.within(goal_ns) + record.missed


def result_of(
    record: Record,
    *,
    url: str,
    model: str,
    scenario: Scenario,
    arrivals: str,
    concurrency: int | None,
    offered_per_s: float | None,
    samples_per_query: int,
    seed: int,
    data: str,
    goal_p99_ms: float | None,
    answers: AnswerCheck | None,
    notes: list[str],
) -> LoadResult:
    """Say what a run showed."""
    seconds = record.elapsed_ns / 1e9
    samples = record.answered * samples_per_query
    per_s = samples / max(seconds, 1e-9)
    if scenario.figure != "samples":
        per_s = record.rate_per_s * samples_per_query
    figure, unit = {
        "rate": (record.rate_per_s, "requests/s"),
        "samples": (per_s, "samples/s"),
        "percentile": (record.percentile_ms(scenario.percent), f"ms p{scenario.percent:g}"),
    }[scenario.figure]
    curve = ((percent, record.percentile_ms(percent)) for percent in _CURVE)
    return LoadResult(
        url=url,
        model=model,
        scenario=scenario.name,
        arrivals=arrivals,
        concurrency=concurrency,
        offered_per_s=offered_per_s,
        samples_per_query=samples_per_query,
        duration_s=seconds,
        seed=seed,
        data=data,
        issued=record.issued,
        answered=record.answered,
        misses=record.misses,
        first_problem=record.first_problem,
        rate_per_s=record.rate_per_s,
        samples_per_s=per_s,
        figure=figure,
        figure_unit=unit,
        latency_ms=percentiles(record.latency, record.missed),
        service_ms=percentiles(record.service),
        lag_ms=percentiles(record.lag),
        curve_ms=[(percent, at) for percent, at in curve if at is not None],
        connections=record.connections,
        goal_p99_ms=goal_p99_ms,
        confident=_confident(record, goal_p99_ms),
        answers=answers,
        unmet=_unmet(record, goal_p99_ms, answers),
        void=record.void(int((goal_p99_ms or 0) * 1e6)),
        notes=[
            *([record.note] if record.note else []),
            *notes,
            *scenario.shortfalls(seconds, record.issued, samples),
        ],
    )


def _confident(record: Record, goal_p99_ms: float | None) -> bool | None:
    if goal_p99_ms is None:
        return None
    late = late_or_missed(record, int(goal_p99_ms * 1e6))
    return confident(late, record.answered + record.missed, _P99)


def _unmet(record: Record, goal_p99_ms: float | None, answers: AnswerCheck | None) -> list[str]:
    found = []
    if record.issued and not record.answered:
        found.append(f"no request was answered well ({record.first_problem})")
    if goal_p99_ms is not None:
        total = record.answered + record.missed
        late = late_or_missed(record, int(goal_p99_ms * 1e6))
        if late * 100 > total:
            found.append(
                f"p99 within {goal_p99_ms:g} ms: {late / max(total, 1):.2%} of the requests took"
                f" longer or missed"
            )
    if answers is not None and (answers.wrong or answers.unreadable):
        bad = answers.wrong + answers.unreadable
        total = answers.checked + answers.unreadable
        found.append(f"right answers: {bad} of {total} were wrong ({answers.first_problem})")
    return found
