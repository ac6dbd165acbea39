"""What ``hasten load`` found of one server, of two in turns, or of one's limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hasten.report.units import ABSENT, latency, significant, speedup

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from hasten.load_generator.comparison import LoadComparison, Ratio
    from hasten.load_generator.limit import Limit
    from hasten.load_generator.result import LoadResult

__all__ = [
    "LoadRow",
    "comparison_summary",
    "figure_of",
    "limit_sentence",
    "limit_summary",
    "load_rows",
    "load_summary",
    "trial_cells",
    "way_of",
]


@dataclass(frozen=True)
class LoadRow:
    """A figure by name: one cell a server, and how many times better the second is."""

    name: str
    cells: tuple[str, ...]
    gain: str = ""


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else significant(value)  # noqa: PLR2004


def _answers(result: LoadResult) -> str:
    found = result.answers
    if found is None:
        return "not checked"
    parts = [f"{found.checked:,} checked"]
    if found.top1 is not None:
        parts.append(f"top-1 {100 * found.top1:.2f} %")
    if found.largest_difference is not None:
        parts.append(f"{found.wrong:,} wrong")
    if found.unreadable:
        parts.append(f"{found.unreadable:,} unreadable")
    if found.unchecked:
        parts.append(f"{found.unchecked:,} left out")
    return ", ".join(parts)


def _misses(result: LoadResult) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in result.misses.items()) or "none"


#: Each row of the table: its name, the name of its ratio, and its cell.
_ROWS: tuple[tuple[str, str, Callable[[LoadResult], str]], ...] = (
    ("requests/s", "requests/s", lambda one: _count(one.rate_per_s)),
    ("samples/s", "", lambda one: _count(one.samples_per_s)),
    ("latency p50", "p50", lambda one: latency(one.latency_ms.p50)),
    ("latency p90", "p90", lambda one: latency(one.latency_ms.p90)),
    ("latency p99", "p99", lambda one: latency(one.latency_ms.p99)),
    ("latency p99.9", "", lambda one: latency(one.latency_ms.p99_9)),
    ("latency, longest", "", lambda one: latency(one.latency_ms.max)),
    ("p99 from the actual send", "", lambda one: latency(one.service_ms.p99)),
    ("generator's lag p99", "", lambda one: latency(one.lag_ms.p99)),
    ("sent", "", lambda one: f"{one.issued:,}"),
    ("missed", "", _misses),
    ("answers", "", _answers),
)


def load_rows(sides: Sequence[LoadResult], ratios: Sequence[Ratio] = ()) -> list[LoadRow]:
    """Return the rows of the table, without those that say nothing of any side."""
    gains = {ratio.figure: speedup(ratio.gain) for ratio in ratios}
    rows = [
        LoadRow(name, tuple(cell(side) for side in sides), gains.get(ratio, ""))
        for name, ratio, cell in _ROWS
    ]
    silent = {"samples/s"} if all(side.samples_per_query == 1 for side in sides) else set()
    paced = any(side.offered_per_s is not None for side in sides)
    silent |= set() if paced else {"p99 from the actual send", "generator's lag p99"}
    silent |= {"answers"} if all(side.answers is None for side in sides) else set()
    return [row for row in rows if row.name not in silent]


def way_of(result: LoadResult) -> str:
    """Say how a server was loaded."""
    how = f"{result.concurrency} in flight"
    if result.offered_per_s is not None:
        how = f"{_count(result.offered_per_s)}/s offered, {result.arrivals} arrivals"
    batch = result.samples_per_query
    each = f", {batch} samples a query" if batch > 1 else ""
    return f"{result.scenario}: {how}{each}, {result.duration_s:.1f} s, {result.data}"


def figure_of(result: LoadResult) -> str:
    """Write what the scenario is judged by.

    A latency that fell on a request which missed has no figure.
    """
    if result.figure is None:
        return ABSENT
    value = result.figure
    number = _count(value) if not result.figure_unit.startswith("ms") else significant(value)
    return f"{number} {result.figure_unit}"


def load_summary(result: LoadResult) -> RenderableType:
    """Return the table of one run, then what must not be overlooked."""
    return _summary([result], (), figure_of(result), result.void, result.unmet)


def comparison_summary(found: LoadComparison) -> RenderableType:
    """Return both side by side, and what may be said of the difference."""
    return _summary([found.a, found.b], found.ratios, found.sentence, found.void, found.unmet)


def limit_sentence(found: Limit) -> str:
    """Say what the limit is."""
    goal = f"p99 within {found.goal_p99_ms:g} ms"
    if found.rate_per_s is None:
        return f"no rate holds {goal}"
    return (
        f"{_count(found.rate_per_s)} requests/s hold {goal},"
        f" confirmed {found.confirmations} times with fresh seeds"
    )


def trial_cells(found: Limit) -> list[tuple[str, ...]]:
    """Return the trials of the search: what for, requests a second, p99, missed, outcome."""
    cells: list[tuple[str, ...]] = []
    for trial in found.trials:
        outcome = "holds" if trial.holds else "void" if trial.void else "breaks"
        p99 = latency(trial.p99_ms)
        missed = f"{trial.missed:,}"
        cells.append((trial.phase, _count(trial.rate_per_s), p99, missed, outcome))
    return cells


def limit_summary(found: Limit) -> RenderableType:
    """Return the trials, the last confirming run, and the limit."""
    from rich.console import Group

    table = _table()
    for title in ("trial", "requests/s", "p99", "missed", ""):
        table.add_column(title, justify="left" if title in {"trial", ""} else "right")
    for cells in trial_cells(found):
        table.add_row(*cells)
    sides = [found.at] if found.at is not None else []
    return Group(table, _summary(sides, (), limit_sentence(found), found.void, found.unmet))


def _summary(
    sides: Sequence[LoadResult],
    ratios: Sequence[Ratio],
    sentence: str,
    void: str,
    unmet: Sequence[str],
) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(title, style="bold") for title in _titles(sides)]
    parts += [_sides(sides, ratios)] if sides else []
    notes = dict.fromkeys(note for side in sides for note in side.notes)
    parts += [Text(f"Note: {note}", style="dim") for note in notes]
    parts += [
        Text(f"The first miss at {side.url}: {side.first_problem}")
        for side in sides
        if side.first_problem
    ]
    parts.append(Text(sentence, style="bold"))
    parts += [Text(f"NOT MET: {goal}", style="bold red") for goal in unmet]
    if void:
        parts.append(Text(f"VOID: {void}", style="bold red"))
    return Group(*parts)


def _sides(sides: Sequence[LoadResult], ratios: Sequence[Ratio]) -> Table:
    table = _table()
    table.add_column("")
    for side in ("A", "B")[: len(sides)] if len(sides) > 1 else ("",):
        table.add_column(side, justify="right")
    if ratios:
        table.add_column("B is better by", justify="right")
    for row in load_rows(sides, ratios):
        table.add_row(row.name, *row.cells, *([row.gain] if ratios else []))
    return table


def _titles(sides: Sequence[LoadResult]) -> Iterator[str]:
    names = ("A: ", "B: ") if len(sides) > 1 else ("",)
    for name, side in zip(names, sides, strict=False):
        yield f"{name}{side.model} at {side.url}"
    if sides:
        yield way_of(sides[0])


def _table() -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(box=SIMPLE_HEAD)
