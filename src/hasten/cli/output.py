"""What a verb leaves on stdout: tables for people, one JSON document for programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hasten.cli.terminal import readable, terminal
from hasten.printable import printable, printable_json

if TYPE_CHECKING:
    from hasten.bundle import Manifest
    from hasten.tune.compression import Compression

__all__ = ["print_compression", "print_json", "print_manifest"]


def print_json(document: Any) -> None:
    """Write one JSON document; what would act on a terminal is written as JSON escapes it."""
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    sys.stdout.write(printable_json(encoded) + "\n")


def print_manifest(manifest: Manifest, path: Path, *, as_json: bool) -> int:
    """Print what ``optimize`` found; returns the exit status, 1 where a goal is unmet."""
    if as_json:
        print_json(manifest)
    else:
        from hasten.report import print_result

        console = terminal()
        print_result(readable(manifest), console)
        shown = printable(str(path))
        console.print(f"\nbundle  {shown}\nreport  {shown}/report.html")
    return 1 if manifest.evidence.unmet else 0


def print_compression(found: Compression, *, as_json: bool) -> int:
    """Print what a single step did; returns the exit status, 1 where a goal is unmet."""
    if as_json:
        print_json(found)
    else:
        from hasten.report import compression_summary

        terminal().print(compression_summary(readable(found)))
    return 1 if found.unmet else 0
