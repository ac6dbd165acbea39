"""The frontier of mixed precision on a terminal: what each mixture loses, and how fast it is."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from hasten.bundle.manifest import Manifest, PrecisionPoint
from hasten.report.titled import titled_table
from hasten.report.units import MetricUnit, significant, speedup

__all__ = ["float_blocks", "frontier_table"]


def frontier_table(manifest: Manifest) -> Table:
    """Return the mixtures that none beats in both speed and accuracy, the fastest first."""
    unit = MetricUnit(manifest.evidence.budget.metric)
    table = titled_table("Mixed precision: blocks in float, the others in int8")
    table.add_column("float blocks", ratio=1)
    table.add_column("runtime", no_wrap=True)
    for heading in ("ms", "over all int8", unit.name):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for point in manifest.evidence.frontier:
        table.add_row(
            Text(float_blocks(point)),
            point.runtime,
            significant(point.latency_ms),
            speedup(point.speedup),
            unit.change(-point.drop),
        )
    return table


def float_blocks(point: PrecisionPoint) -> str:
    """Name the blocks a mixture keeps in float.

    >>> from hasten.bundle.manifest import Interval
    >>> same = Interval(1.0, 1.0, 1.0)
    >>> float_blocks(PrecisionPoint(runtime="onnxruntime", float_blocks=("stem", "head"), blocks=9,
    ...     drop=0.0, latency_ms=1.0, speedup=same))
    '2 of 9: stem, head'
    """
    count = len(point.float_blocks)
    if count in {0, point.blocks}:
        return "all" if count else "none"
    return f"{count} of {point.blocks}: {', '.join(point.float_blocks)}"
