"""``hasten bench``: one model, as it runs here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hasten.cli.options import inputs_of, rounds_of
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.tune.compare import bench as bench_subject
from hasten.tune.subject import Wanted, open_subject

__all__ = ["bench"]


def bench(
    x: str,
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
    """Time one model, bundle or runtime.

    Parameters
    ----------
    x
        A model, a bundle or package.module:callable; PATH@RUNTIME names the runtime.
    data
        Samples to feed it with; random ones by default.
    preprocess
        How pixels become the model's input: size=224x224,mean=0.5,std=0.5.
    input
        An input of a PyTorch model: name=float32[batch,3,224,224]. Repeat for each.
    runtime
        The runtime, where x does not name one.
    threads
        Use exactly so many threads.
    rounds
        How many rounds.
    seed
        Decides random samples.
    json
        Print one JSON document.
    """
    wanted = Wanted(runtime, threads, data, preprocess, tuple(inputs_of(input)), seed)
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        scratch = Path(name)
        found = bench_subject(
            open_subject(x, wanted, scratch / "x"),
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

    Console().print(timings_table([found]))
    return 0
