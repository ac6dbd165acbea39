"""``hasten compare``: two in pairs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hasten.cli.options import inputs_of, rounds_of
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.tune.compare import compare as compare_subjects
from hasten.tune.subject import Wanted, open_subject

__all__ = ["compare"]


def compare(
    a: str,
    b: str,
    *,
    data: str | None = None,
    preprocess: str | None = None,
    input: Annotated[list[str] | None, Parameter(negative=())] = None,  # noqa: A002
    runtime: str | None = None,
    threads: int | None = None,
    rounds: int = 30,
    seed: int = 0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Time two in pairs, and say which is faster.

    Parameters
    ----------
    a
        A model, a bundle or package.module:callable; PATH@RUNTIME names the runtime.
    b
        The same.
    data
        Samples to feed both with; random ones by default.
    preprocess
        How pixels become the models' input: size=224x224,mean=0.5,std=0.5.
    input
        An input of a PyTorch model: name=float32[batch,3,224,224]. Repeat for each.
    runtime
        The runtime for both, where they do not name one.
    threads
        Use exactly so many threads.
    rounds
        How many paired rounds.
    seed
        Decides orders and random samples.
    json
        Print one JSON document.
    """
    wanted = Wanted(runtime, threads, data, preprocess, tuple(inputs_of(input)), seed)
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        scratch = Path(name)
        found = compare_subjects(
            open_subject(a, wanted, scratch / "a"),
            open_subject(b, wanted, scratch / "b"),
            rounds=rounds_of(rounds),
            seed=seed,
            scratch=scratch,
            progress=shown(),
        )
    if json:
        print_json(found)
        return 0
    from rich.console import Console

    from hasten.report import timings_table

    console = Console()
    console.print(timings_table([found.a, found.b]))
    console.print(found.sentence, highlight=False)
    console.print(f"A/A control: {found.control}", highlight=False)
    return 0
