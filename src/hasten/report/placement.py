"""Where operators run, as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.runtimes import Placement

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["crossing", "placement_table"]


def placement_table(placement: Placement) -> RenderableType:
    """One row an executor; the nodes that fell back are named below."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title="Where operators run", title_justify="left")
    table.add_column("executor", no_wrap=True)
    table.add_column("operators", justify="right")
    table.add_column("parts", justify="right")
    table.add_column("what")
    for share in placement.shares:
        count = str(len(share.operators))
        table.add_row(Text(share.executor), count, str(share.partitions), Text(share.kinds))
    lines = [Text(f"{crossing(placement)} cross between parts in one run.")]
    if placement.fallbacks:
        lines.append(Text(f"{placement.fallback}."))
    return Group(table, *lines)


def crossing(placement: Placement) -> str:
    """Bytes that cross, in a unit that suits them.

    >>> crossing(Placement("GPU", 1, 602_112, ()))
    '602.1 kB'
    """
    size = placement.crossing_bytes
    return f"{size} bytes" if size < 1000 else f"{size / 1e3:,.1f} kB"  # noqa: PLR2004 - a kilobyte
