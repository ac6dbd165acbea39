"""A table of what ``bench`` and ``compare`` timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from hasten.report.units import latency as milliseconds
from hasten.report.units import megabytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hasten.bundle.manifest import Latency

__all__ = ["Timed", "timings_table"]


class Timed(Protocol):
    """One subject and its figures."""

    @property
    def label(self) -> str:
        """What was timed."""
        ...

    @property
    def latency_ms(self) -> Latency:
        """Percentiles of one run."""
        ...

    @property
    def items_per_s(self) -> float:
        """Samples a second, one run after another."""
        ...

    @property
    def open_ms(self) -> float:
        """Time to compile and run once."""
        ...

    @property
    def size_bytes(self) -> int:
        """Size of the model file."""
        ...

    @property
    def peak_memory_bytes(self) -> int:
        """Peak memory of the process."""
        ...


def timings_table(rows: Sequence[Timed]) -> RenderableType:
    """One row a subject."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("subject")
    for title in ("p50", "p90", "p99", "items/s", "open", "file", "memory"):
        table.add_column(title, justify="right")
    for row in rows:
        found = row.latency_ms
        table.add_row(
            row.label,
            milliseconds(found.p50),
            milliseconds(found.p90),
            milliseconds(found.p99),
            f"{row.items_per_s:,.0f}",
            milliseconds(row.open_ms),
            megabytes(row.size_bytes),
            megabytes(row.peak_memory_bytes),
        )
    return table
