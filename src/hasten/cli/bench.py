"""``hasten bench``: one model, as it runs here."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hasten.cli.options import Timing
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.cli.terminal import readable, terminal
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
            fail_on_fallback=timing.fail_on_fallback,
        )
    if timing.json:
        print_json(found)
        return 0
    from hasten.report import placement_table, timings_table

    console, found = terminal(), readable(found)
    console.print(timings_table([found]))
    if found.placement is not None:
        console.print(placement_table(found.placement))
    return 0
