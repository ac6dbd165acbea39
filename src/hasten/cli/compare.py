"""``hasten compare``: two in pairs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from hasten.cli.options import Repeated, Timing
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.cli.terminal import readable, terminal
from hasten.conversion import require_tolerance
from hasten.data.meaning import parse_outputs
from hasten.printable import printable
from hasten.tune.budget import Budget
from hasten.tune.compare import compare as compare_subjects
from hasten.tune.resemblance import resemblance
from hasten.tune.subject import open_subject

__all__ = ["compare"]

_AS_USUAL = Timing()
#: What counts as parting where no tolerance is given.
_USUAL = Budget().max_drop


def compare(
    a: str,
    b: str,
    *,
    output: Repeated = None,
    tolerance: float | None = None,
    timing: Timing = _AS_USUAL,
) -> int:
    """Time two in pairs, say which is faster, and whether the second answers as the first does.

    Parameters
    ----------
    a
        A model, a bundle or package.module:callable; PATH@RUNTIME names the runtime.
    b
        The same.
    output
        What an output is: name=kind, such as logits=scores; see docs/judging.md. Repeat for each.
    tolerance
        How much of an output may be lost, a share from 0 to 1: exit status 1 where it is more.
    """
    wanted = timing.wanted()
    require_tolerance(tolerance)
    kinds = parse_outputs(output or ())
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        scratch = Path(name)
        first = open_subject(a, wanted, scratch / "a")
        second = open_subject(b, wanted, scratch / "b")
        lost = _USUAL if tolerance is None else tolerance
        alike = resemblance(first, second, scratch, kinds, lost)
        found = compare_subjects(
            first,
            second,
            rounds=timing.rounds,
            seed=timing.seed,
            scratch=scratch,
            progress=shown(),
            fail_on_fallback=timing.fail_on_fallback,
        )
    found = msgspec.structs.replace(found, resemblance=alike)
    parting = [] if tolerance is None else alike.parting(tolerance)
    if timing.json:
        print_json(found)
        return 1 if parting else 0
    from rich.text import Text

    from hasten.report import outputs_table, timings_table

    console, found, alike = terminal(), readable(found), readable(alike)
    console.print(timings_table([found.a, found.b]))
    console.print(found.sentence)
    console.print(f"A/A control: {found.control}")
    if alike.outputs:
        console.print()
        console.print(outputs_table(alike.outputs, "Outputs of the second, against the first's"))
    why = f"the outputs were not compared: {alike.reason}" if alike.reason else ""
    for line in filter(None, (why, alike.drift)):
        console.print(Text(f"Note: {line}", style="dim"))
    for line in parting:
        console.print(Text(f"NOT MET: {printable(line)}", style="bold red"))
    return 1 if parting else 0
