"""How many executors, with how many threads each: measured, for one model on this host.

A layout is (instances, threads) with instances x threads at most the physical cores. All layouts
run in interleaved rounds in processes of their own, every instance busy, so each is measured at
its full load.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from hasten.errors import RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.environment import Weather
from hasten.measure.rounds import Entrant, Measurement, run_rounds
from hasten.measure.statistics import Interval, Latency, verdict
from hasten.progress import Progress, Quiet
from hasten.runtimes import Execution, Lowered
from hasten.worker.process import Worker

__all__ = ["ExecutorSizing", "Layout", "layouts", "size_executors"]

#: Up to so many cores every layout is measured; beyond, powers of two and the number itself.
_ALL_UP_TO = 4
#: Processes of their own for each share of the rounds: two of one program differ a little.
_BLOCKS = 3
_OPEN_LIMIT_S = 300.0


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """One layout as measured at full load, or the reason why it could not be.

    ``latency_ms`` is of single runs while all instances are busy. ``speedup`` is the throughput
    over that of one instance with one thread.
    """

    instances: int
    threads: int
    items_per_s: float = 0.0
    latency_ms: Latency | None = None
    speedup: Interval | None = None
    peak_memory_bytes: int = 0
    failure: str = ""

    def __str__(self) -> str:
        return f"{self.instances} x {self.threads}"


class ExecutorSizing(msgspec.Struct, frozen=True, kw_only=True):
    """All layouts, and the ones to serve with.

    ``for_throughput`` is the best of many answers a second; of layouts that are not measurably
    slower it is the one with the lowest p99. ``for_latency`` has the lowest median.
    """

    runtime: str
    cores: int
    layouts: tuple[Layout, ...]
    for_throughput: Layout
    for_latency: Layout
    notes: tuple[str, ...] = ()


def layouts(cores: int) -> Iterator[tuple[int, int]]:
    """Yield (instances, threads), one of each first.

    >>> list(layouts(2))
    [(1, 1), (1, 2), (2, 1)]
    >>> len(list(layouts(64)))
    28
    """
    powers = [1 << at for at in range(cores.bit_length()) if 1 << at < cores]
    counts = range(1, cores + 1) if cores <= _ALL_UP_TO else [*powers, cores]
    for instances in counts:
        yield from ((instances, threads) for threads in counts if instances * threads <= cores)


def size_executors(
    runtime: str,
    lowered: Lowered,
    execution: Execution,
    samples: Path,
    *,
    cores: int,
    rounds: int = 30,
    seed: int = 0,
    scratch: Path,
    progress: Progress | None = None,
) -> ExecutorSizing:
    """Measure every layout; ``execution`` gives all but instances and threads.

    Raises RuntimeFailureError where one instance with one thread fails; another layout that fails
    keeps its reason.
    """
    asked = [
        msgspec.structs.replace(execution, instances=instances, threads=threads)
        for instances, threads in layouts(cores)
    ]
    found = [Measurement() for _ in asked]
    failures = [""] * len(asked)
    order = random.Random(seed)  # noqa: S311 - an order of rounds, not a secret
    blocks = min(_BLOCKS, rounds)
    before = Weather.now()
    with (progress or Quiet()).stage("measuring layouts", rounds) as advance:
        for block in range(blocks):
            share = rounds * (block + 1) // blocks - rounds * block // blocks
            with ExitStack() as stack:
                entrants = [
                    Entrant(stack.enter_context(Worker(scratch)), measurement, failure)
                    for measurement, failure in zip(found, failures, strict=True)
                ]
                _open(entrants, asked, runtime, lowered, samples)
                run_rounds(entrants, share, order, Deadline.after(None), lambda: advance(1))
                failures = [entrant.failure for entrant in entrants]
                for entrant in entrants:
                    peak = entrant.worker.peak_memory_bytes()
                    kept = entrant.measurement
                    kept.peak_memory_bytes = max(kept.peak_memory_bytes, peak)
    measured = tuple(
        _layout(one, measurement, failure, found[0])
        for one, measurement, failure in zip(asked, found, failures, strict=True)
    )
    notes = tuple(f"unsteady: {cause}" for cause in Weather.now().unrest_since(before))
    return ExecutorSizing(
        runtime=runtime,
        cores=cores,
        layouts=measured,
        for_throughput=_for_throughput(measured, found),
        for_latency=min((one for one in measured if one.latency_ms), key=_median),
        notes=notes,
    )


def _open(
    entrants: Sequence[Entrant],
    asked: Sequence[Execution],
    runtime: str,
    lowered: Lowered,
    samples: Path,
) -> None:
    for entrant, execution in zip(entrants, asked, strict=True):
        if entrant.failure:
            continue
        try:
            entrant.worker.open(runtime, lowered, execution, samples, _OPEN_LIMIT_S)
        except RuntimeFailureError as failure:
            if entrant is entrants[0]:
                raise
            entrant.failure = str(failure)


def _layout(
    execution: Execution, found: Measurement, failure: str, reference: Measurement
) -> Layout:
    layout = Layout(instances=execution.instances, threads=execution.threads, failure=failure)
    if failure:
        return layout
    return msgspec.structs.replace(
        layout,
        items_per_s=1e3 / found.latency("throughput").p50,
        latency_ms=found.latency("latency"),
        speedup=found.speedup_over(reference, "throughput"),
        peak_memory_bytes=found.peak_memory_bytes,
    )


def _for_throughput(measured: Sequence[Layout], found: Sequence[Measurement]) -> Layout:
    """Return the layout with the best tail of those that the fastest does not measurably beat."""
    running = [at for at, layout in enumerate(measured) if not layout.failure]
    fastest = max(running, key=lambda at: measured[at].items_per_s)
    tied = [
        at
        for at in running
        if at == fastest
        or verdict(found[fastest].speedup_over(found[at], "throughput")) != "faster"
    ]
    return min((measured[at] for at in tied), key=_tail)


def _median(layout: Layout) -> float:
    return layout.latency_ms.p50 if layout.latency_ms else float("inf")


def _tail(layout: Layout) -> float:
    return layout.latency_ms.p99 if layout.latency_ms else float("inf")
