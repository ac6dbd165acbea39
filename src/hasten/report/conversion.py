"""What ``convert`` wrote, and the operators that it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.report.outputs import decibels, kept
from hasten.report.units import megabytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hasten.conversion import Agreement, Conversion
    from hasten.data import OutputScore

__all__ = ["conversion_summary", "operators_table"]


def conversion_summary(found: Conversion) -> RenderableType:
    """A line each: the file, its inputs and outputs, what is free, how far outputs part."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    rows = [("written", f"{found.path} ({megabytes(found.size_bytes)})")]
    rows += [("input", str(spec)) for spec in found.signature.inputs]
    rows += [("output", str(spec)) for spec in found.signature.outputs]
    rows += [("free", ", ".join(found.free) or "nothing: every size is fixed")]
    rows += [("agreement", _agreement(found.agreement))]
    rows += [("kept", _kept(one)) for one in found.agreement.outputs]
    rows += [("note", note) for note in found.notes]
    for name, text in rows:
        table.add_row(name, Text(text))
    return table


def _kept(one: OutputScore) -> str:
    noise = "" if one.sqnr_db is None else f", {decibels(one.sqnr_db)}"
    return f"{one.output} ({one.kind.replace('_', ' ')}: {one.why}): {kept(one.figure)}{noise}"


def _agreement(found: Agreement) -> str:
    kind = "random samples" if found.synthetic else "samples"
    return (
        f"{found.right} differs from {found.left} by at most {found.largest.relative:.2g} of"
        f" {found.largest.output}'s largest value on {found.samples} {kind};"
        f" {found.allowed:g} is allowed"
    )


def operators_table(found: Conversion) -> RenderableType:
    """One row for each builtin operator and version."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("operator")
    for title in ("version", "used"):
        table.add_column(title, justify="right")
    for one in found.operators:
        table.add_row(one.name, str(one.version), str(one.count))
    return table
