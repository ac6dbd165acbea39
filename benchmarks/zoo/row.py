"""What was found of one part of one architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

__all__ = ["DONE", "PARTS", "Finding", "Kind", "Row", "append_row", "read_rows"]

#: What is measured of each architecture, in this order.
PARTS = ("trainable", "deployed", "prunable", "int8", "harmless")

#: What stands behind the findings of a part that came to its end.
DONE = "done"

#: ``met`` and ``missed`` are measured; ``refused`` is an error of Hasten's own, in one line;
#: ``traceback`` is any other exception; ``crashed`` and ``hung`` ended the process.
Kind = Literal["met", "missed", "refused", "traceback", "crashed", "hung"]


class Finding(NamedTuple):
    """What a part found, such as ``deployed on litert``; ``reason`` says why it is not met."""

    what: str
    kind: Kind
    figures: dict[str, float] = {}  # noqa: RUF012 - never changed
    reason: str = ""


class Row(msgspec.Struct, frozen=True):
    """A finding, with the architecture and the part that it is of."""

    architecture: str
    part: str
    what: str
    kind: Kind
    figures: dict[str, float] = {}
    reason: str = ""
    seconds: float = 0.0


def read_rows(path: Path) -> list[Row]:
    """Return the rows that were appended to a file; none where there is no file.

    A line that was cut off when its writer died is left out.
    """
    text = path.read_bytes() if path.is_file() else b""
    return [msgspec.json.decode(line, type=Row) for line in text.split(b"\n")[:-1]]


def append_row(path: Path, row: Row) -> None:
    """Write a row behind those that are there."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")
