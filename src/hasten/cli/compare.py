"""``hasten compare``: two in pairs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hasten.cli.options import Timing
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.tune.compare import compare as compare_subjects
from hasten.tune.subject import open_subject

__all__ = ["compare"]

_AS_USUAL = Timing()


def compare(a: str, b: str, *, timing: Timing = _AS_USUAL) -> int:
    """Time two in pairs, and say which is faster.

    Parameters
    ----------
    a
        A model, a bundle or package.module:callable; PATH@RUNTIME names the runtime.
    b
        The same.
    """
    wanted = timing.wanted()
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        scratch = Path(name)
        found = compare_subjects(
            open_subject(a, wanted, scratch / "a"),
            open_subject(b, wanted, scratch / "b"),
            rounds=timing.rounds,
            seed=timing.seed,
            scratch=scratch,
            progress=shown(),
        )
    if timing.json:
        print_json(found)
        return 0
    from rich.console import Console

    from hasten.report import timings_table

    console = Console()
    console.print(timings_table([found.a, found.b]))
    console.print(found.sentence, highlight=False)
    console.print(f"A/A control: {found.control}", highlight=False)
    return 0
