"""Each output against the reference's, as a table: what it is, what is kept, and where least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hasten.report.units import ABSENT

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hasten.data import OutputScore

__all__ = ["decibels", "kept", "outputs_table"]


def outputs_table(outputs: Sequence[OutputScore], title: str) -> RenderableType:
    """Return a row an output; what is ruined says why below."""
    from rich.console import Group
    from rich.text import Text

    from hasten.report.titled import titled_table

    table = titled_table(title)
    table.add_column("output", ratio=2)
    table.add_column("taken for", ratio=3)
    for heading in ("kept", "SQNR", "least in sample"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in outputs:
        table.add_row(
            Text(one.output),
            Text(f"{one.kind.replace('_', ' ')}: {one.why}"),
            kept(one.figure),
            decibels(one.sqnr_db),
            f"{one.worst_sample} ({kept(one.worst_figure)})" if one.worst_figure < 1 else ABSENT,
            style="red" if one.broken else "",
        )
    ruined = [Text(f"{one.output} is ruined: {one.broken}", "red") for one in outputs if one.broken]
    return Group(table, *ruined)


def kept(figure: float) -> str:
    """Write what is kept.

    >>> kept(0.99734)
    '99.73 %'
    """
    return f"{100 * figure:.2f} %"


def decibels(sqnr_db: float | None) -> str:
    """Write a signal to noise ratio; equal outputs have none.

    >>> decibels(31.42), decibels(200.0)
    ('31.4 dB', 'exact')
    """
    if sqnr_db is None:
        return ABSENT
    exact = 199.0
    return "exact" if sqnr_db > exact else f"{sqnr_db:.1f} dB"
