"""The form of a table with a title above it, on a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

__all__ = ["titled_table"]


def titled_table(title: str) -> Table:
    """Return an empty table, as wide as the terminal, without lines around it."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        expand=True,
        show_edge=False,
    )
