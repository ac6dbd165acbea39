"""``hasten doctor``: what this host has, what slows it, and what to change."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hasten.cli.options import Flag, Repeated, inputs_of
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.cli.terminal import readable, terminal
from hasten.doctor import (
    ExecutorSizing,
    Finding,
    Host,
    IoPool,
    findings,
    observe,
    size_executors,
    size_io_pool,
)
from hasten.errors import OptionError
from hasten.tune.subject import Wanted, open_subject

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Diagnosis", "doctor"]


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as ``--json`` prints it; None where it was not asked for."""

    host: Host
    findings: tuple[Finding, ...]
    executors: ExecutorSizing | None
    io_pool: IoPool | None


def doctor(
    x: str | None = None,
    *,
    io: str | None = None,
    utilization: float = 1.0,
    data: str | None = None,
    preprocess: str | None = None,
    input: Repeated = None,  # noqa: A002 - the flag's name
    runtime: str | None = None,
    rounds: int = 30,
    seed: int = 0,
    json: Flag = False,
) -> int:
    """Say what this host has and what to change, and size executors and I/O pools by measuring.

    Parameters
    ----------
    x
        A model, a bundle or package.module:callable: sizes executors x threads for it.
    io
        A folder of files or images, a file or a URL: sizes a pool of threads that read it.
    utilization
        How busy the pool may keep the cores, up to 1.
    data
        Samples to feed the model; random ones by default. A folder is what --io is, without that.
    preprocess
        How pixels become a model's input: size=224x224,mean=0.5,std=0.5.
    input
        An input of a PyTorch model: name=float32[batch,3,224,224]. Repeat for each.
    runtime
        The runtime, where a model does not name one.
    rounds
        How many rounds measure each layout.
    seed
        Decides orders and random samples.
    json
        Print one JSON document.
    """
    if rounds < 1:
        raise OptionError(expected="1 or more", got=str(rounds), where="--rounds")
    host = observe()
    cores = host.physical_cores
    read = io or (data if data and Path(data).is_dir() else None)
    pool = size_io_pool(read, cores=cores, utilization=utilization) if read else None
    executors = None
    if x is not None:
        wanted = Wanted(runtime, None, data, preprocess, tuple(inputs_of(input)), seed)
        executors = _size(x, wanted, cores, rounds)
    found = Diagnosis(host=host, findings=tuple(findings(host)), executors=executors, io_pool=pool)
    if json:
        print_json(found)
    else:
        _print(found)
    return 0


def _size(x: str, wanted: Wanted, cores: int, rounds: int) -> ExecutorSizing:
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        scratch = Path(name)
        subject = open_subject(x, wanted, scratch / "x")
        return size_executors(
            subject.runtime,
            subject.lowered,
            subject.execution,
            subject.samples,
            cores=cores,
            rounds=rounds,
            seed=wanted.seed,
            scratch=scratch,
            progress=shown(),
        )


def _print(found: Diagnosis) -> None:
    from hasten.report.host import findings_list, host_table

    console, found = terminal(), readable(found)
    console.print(host_table(found.host))
    console.print(findings_list(found.findings))
    _print_executors(found.executors, console)
    _print_pool(found.io_pool, console)


def _print_executors(sizing: ExecutorSizing | None, console: Console) -> None:
    from hasten.report.host import executors_table

    if sizing is None:
        console.print("\nexecutors x threads: give a model or a bundle to have them measured")
        return
    console.print(executors_table(sizing))
    for layout, goal in ((sizing.for_throughput, "throughput"), (sizing.for_latency, "latency")):
        settings = {"instances": layout.instances, "threads": layout.threads}
        console.print(f"for {goal}: {msgspec.json.encode(settings).decode()}")
    for note in sizing.notes:
        console.print(note)


def _print_pool(pool: IoPool | None, console: Console) -> None:
    if pool is None:
        console.print("\nI/O pool: give --io a folder, a file or a URL to have W/C measured")
        return
    console.print(
        f"\nI/O pool: {pool.does}, {pool.tasks} times: W {pool.wait_ms:.3f} ms,"
        f" C {pool.compute_ms:.3f} ms, W/C {pool.ratio:.2f}"
    )
    console.print(f"N x U x (1 + W/C) = {pool}")
