"""Results for the terminal: they read the same with colour and without it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from hasten.bundle.manifest import CandidateRecord, Manifest
from hasten.report.frontier import frontier_table
from hasten.report.outputs import outputs_table
from hasten.report.placement import placement_table
from hasten.report.reasons import shortened
from hasten.report.titled import titled_table
from hasten.report.units import MetricUnit, latency, megabytes, proportion, significant, speedup

__all__ = ["candidates_table", "ledger_table", "print_result", "summary"]

_STYLES = {"won": "bold green", "over_budget": "yellow", "failed": "red", "refused": "dim"}


def candidates_table(manifest: Manifest) -> RenderableType:
    """Return the timed candidates from fast to slow, then what could not be used, with reasons."""
    records = manifest.evidence.candidates
    if not records:
        return Text("There were no candidates.")
    timed = [(r.latency_ms.p50, r) for r in records if r.latency_ms is not None]
    timed.sort(key=lambda pair: pair[0])
    unusable = [record for record in records if record.status not in {"won", "lost"}]
    parts: list[RenderableType] = []
    if timed:
        parts.append(_timed_table(timed, MetricUnit(manifest.evidence.budget.metric)))
    if unusable:
        parts += [Text(), _unusable_table(unusable)]
    return Group(*parts)


def _timed_table(timed: Iterable[tuple[float, CandidateRecord]], unit: MetricUnit) -> Table:
    table = titled_table("Candidates that were timed, from fast to slow")
    table.add_column("candidate", ratio=1)
    for heading in ("ms", "speedup", unit.name, "MB"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for milliseconds, record in timed:
        table.add_row(
            Text(record.label),
            significant(milliseconds),
            Text(speedup(record.speedup)),
            unit.value(record.metric),
            megabytes(record.size_bytes).removesuffix(" MB"),
            Text("over" if record.status == "over_budget" else record.status),
            style=_STYLES.get(record.status),
        )
    return table


def _unusable_table(records: Iterable[CandidateRecord]) -> Table:
    table = titled_table("Over budget, failed or refused")
    table.add_column("candidate", ratio=3)
    table.add_column("status", no_wrap=True)
    table.add_column("reason", ratio=4)
    for record in records:
        status = Text(record.status.replace("_", " "), style=_STYLES.get(record.status, ""))
        reason = shortened(record.reason or "no reason recorded")
        table.add_row(Text(record.label), status, Text(reason))
    return table


def ledger_table(manifest: Manifest) -> RenderableType:
    """Return what each part of the chosen plan contributes by itself."""
    evidence = manifest.evidence
    if not evidence.ledger:
        return Text("No part was measured on its own.")
    unit = MetricUnit(evidence.budget.metric)
    table = titled_table("What each part contributed")
    table.add_column("part", ratio=1)
    for heading in ("its own speedup", unit.name, "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in evidence.ledger:
        part = Text(entry.step)
        if entry.note:
            part.append(f"\n{entry.note}", style="dim")
        size = entry.size_change_bytes
        sign = "+" if size > 0 else "\N{MINUS SIGN}" if size < 0 else ""
        change = f"{sign}{megabytes(abs(size))}"
        table.add_row(part, speedup(entry.speedup), unit.change(entry.metric_change), change)
    return table


def summary(manifest: Manifest) -> RenderableType:
    """Return reference and chosen side by side, then the verdict, unmet goals and notes."""
    evidence = manifest.evidence
    reference, chosen = evidence.reference, evidence.chosen
    unit = MetricUnit(evidence.budget.metric)
    table = titled_table("Result")
    table.add_column("", no_wrap=True)
    table.add_column("reference", justify="right", ratio=3)
    table.add_column("chosen", justify="right", ratio=3, style="bold")
    table.add_column("", ratio=4)
    table.add_row("plan", Text(reference.label), Text(chosen.label), "")
    before, after = reference.latency_ms, chosen.latency_ms
    table.add_row(
        "latency p50", latency(before.p50), latency(after.p50), Text(speedup(evidence.speedup))
    )
    table.add_row("latency p90", latency(before.p90), latency(after.p90), "")
    table.add_row("latency p99", latency(before.p99), latency(after.p99), "")
    drop = unit.drop(evidence.drop, evidence.budget.max_drop)
    table.add_row(Text(unit.name), unit.value(reference.metric), unit.value(chosen.metric), drop)
    for name, was, now in (
        ("size", reference.size_bytes, chosen.size_bytes),
        ("peak memory", reference.peak_memory_bytes, chosen.peak_memory_bytes),
    ):
        share = f"{proportion(now, was)} of the reference" if was else ""
        table.add_row(name, megabytes(was), megabytes(now), share)
    return Group(table, Text(), *_sentences(manifest))


def _sentences(manifest: Manifest) -> Iterable[Text]:
    evidence = manifest.evidence
    for note in evidence.notes:
        yield Text(f"Note: {note}", style="dim")
    yield Text(evidence.verdict, style="bold")
    for goal in evidence.unmet:
        yield Text(f"NOT MET: {goal}", style="bold red")


def print_result(manifest: Manifest, console: Console) -> None:
    """Print the whole result; the verdict comes last, where the eye is when a command ends."""
    parts = [candidates_table(manifest), ledger_table(manifest)]
    if manifest.evidence.outputs:
        title = "Outputs of the chosen plan, against those of the reference"
        parts.append(outputs_table(manifest.evidence.outputs, title))
    if manifest.evidence.frontier:
        parts.append(frontier_table(manifest))
    if manifest.evidence.placement is not None:
        parts.append(placement_table(manifest.evidence.placement))
    for part in (*parts, summary(manifest)):
        console.print(part)
        console.print()
