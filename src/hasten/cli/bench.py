"""``hasten bench``: one model, as it runs here."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hasten.cli.options import Timing
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.tune.compare import bench as bench_subject
from hasten.tune.subject import open_subject

__all__ = ["bench"]

_AS_USUAL = Timing()


def bench(x: str, *, timing: Timing = _AS_USUAL) -> int:
    """Time one model, bundle or runtime.

    Parameters
    ----------
    x
        A model, a bundle or package.module:callable; PATH@RUNTIME names the runtime.
    """
    wanted = timing.wanted()
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        scratch = Path(name)
        found = bench_subject(
            open_subject(x, wanted, scratch / "x"),
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

    Console().print(timings_table([found]))
    return 0
