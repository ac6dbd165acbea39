"""What one step alone made of a model: the figures before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hasten.report.outputs import outputs_table
from hasten.report.units import ABSENT, MetricUnit, latency, megabytes, proportion, speedup

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hasten.tune.compression import Compression, Figures, Pair

__all__ = ["compression_summary"]


def compression_summary(found: Compression) -> RenderableType:
    """Return the table of figures, then the file, notes and goals that are unmet."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    pair = found.pair
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for title in (pair.before.label, pair.after.label, ""):
        table.add_column(title, justify="right")
    for row in _rows(pair):
        table.add_row(*map(Text, row))
    parts: list[RenderableType] = [table]
    if pair.outputs:
        title = f"Outputs {pair.after.label}, against those {pair.before.label}"
        parts += [outputs_table(pair.outputs, title), Text()]
    said = [Text(f"Note: {note}", style="dim") for note in (*found.notes, *pair.notes)]
    steps = " + ".join(map(str, found.steps)) or "as it was"
    said.append(Text(f"{steps}, measured on {pair.runtime}: {found.path}", style="bold"))
    said += [Text(f"NOT MET: {goal}", style="bold red") for goal in found.unmet]
    return Group(*parts, *said)


def _rows(pair: Pair) -> Iterator[tuple[str, str, str, str]]:
    before, after = pair.before, pair.after
    unit = MetricUnit(pair.metric)
    change = unit.change(None if pair.drop is None else -pair.drop)
    yield unit.name, unit.value(before.metric), unit.value(after.metric), change
    yield (
        "latency p50",
        latency(before.latency_ms.p50 if before.latency_ms else None),
        latency(after.latency_ms.p50 if after.latency_ms else None),
        _pace(pair),
    )
    for name, was, now in (
        ("file", before.size_bytes, after.size_bytes),
        ("file, compressed", before.compressed_bytes, after.compressed_bytes),
        ("peak memory", before.peak_memory_bytes, after.peak_memory_bytes),
    ):
        yield name, megabytes(was), megabytes(now), _share(was, now)
    was, now = before.parameters, after.parameters
    yield "parameters", f"{was:,}", f"{now:,}", _share(was, now)
    yield "zeros in weights", _zeros(before), _zeros(after), ""


def _pace(pair: Pair) -> str:
    if pair.speedup is None or pair.verdict is None:
        return ABSENT
    return f"{speedup(pair.speedup)} {pair.verdict}"


def _share(was: int | None, now: int | None) -> str:
    return f"{proportion(now, was)}" if was and now is not None else ABSENT


def _zeros(figures: Figures) -> str:
    return f"{100 * figures.zero_share:.1f} %"
