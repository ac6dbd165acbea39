"""Tables of what ``doctor`` found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hasten.report.units import latency, megabytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hasten.doctor import ExecutorSizing, Finding, Host

__all__ = ["executors_table", "findings_list", "host_table"]


def host_table(host: Host) -> RenderableType:
    """One row a fact; what the machine does not tell is said so."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in _facts(host):
        table.add_row(name, text)
    return table


def _facts(host: Host) -> list[tuple[str, str]]:
    unknown = "not told"
    smt = {None: unknown, True: "on", False: "off"}[host.smt_active]
    governors = ", ".join(host.governors) or unknown
    quota = "none" if host.quota is None else f"{host.quota:g} processors"
    watched = f"in {host.watched_s:.1f} s"
    return [
        ("processor", (host.cpu or unknown) + (", virtual" if host.virtual else "")),
        ("instructions", " ".join(host.flags) or "none that matter"),
        ("cores", f"{len(host.cores)} physical, {len(host.usable_cpus)} threads; SMT {smt}"),
        ("quota", quota),
        ("governor", governors),
        ("memory", megabytes(host.memory_bytes)),
        ("memory nodes", str(len(host.numa_nodes) or 1)),
        ("huge pages", host.huge_pages or unknown),
        ("clock", host.clock_source or unknown),
        ("load", f"{host.load_1m:.2f}; steal {host.steal_share:.1%} {watched}"),
        ("interrupts", _interrupts(host) or f"none of devices {watched}"),
    ]


def _interrupts(host: Host) -> str:
    busiest = host.interrupts[:3]
    return ", ".join(
        f"{one.device} {sum(one.per_second.values()):,.0f}/s on cpu "
        + ",".join(map(str, sorted(one.per_second)))
        for one in busiest
    )


def findings_list(findings: Sequence[Finding]) -> RenderableType:
    """A few lines for each finding; one line where there is none."""
    from rich.text import Text

    if not findings:
        return Text("nothing to change")
    text = Text()
    for finding in findings:
        text.append(f"{finding.severity}: ", style="bold")
        text.append(f"{finding.what}\n")
        text.append(f"    {finding.why}\n", style="dim")
        text.append(f"    {finding.command}\n")
    text.rstrip()
    return text


def executors_table(sizing: ExecutorSizing) -> RenderableType:
    """One row a layout: what it does at full load."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        title=f"instances x threads: {sizing.runtime}, {sizing.cores} cores",
        title_justify="left",
    )
    table.add_column("layout", no_wrap=True)
    for heading in ("items/s", "to 1 x 1", "p50", "p99", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layout in sizing.layouts:
        found = layout.latency_ms
        if found is None:
            table.add_row(str(layout), layout.failure)
            continue
        table.add_row(
            str(layout),
            f"{layout.items_per_s:,.0f}",
            str(layout.speedup),
            *(latency(one) for one in (found.p50, found.p99)),
            megabytes(layout.peak_memory_bytes),
        )
    return table
