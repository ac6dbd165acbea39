"""Timing one, and timing two in pairs: the race's measuring without the race."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from hasten.errors import RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.environment import Weather, environment
from hasten.measure.process import Worker
from hasten.measure.rounds import Entrant, Measurement, run_rounds
from hasten.measure.statistics import Interval, Latency, Verdict, verdict
from hasten.progress import Progress, Quiet
from hasten.tune.subject import Subject

__all__ = ["Bench", "Comparison", "bench", "compare"]

#: Every block has processes of its own, for two processes of one program differ by more than
#: their rounds do: more blocks tell more than more rounds.
_BLOCKS = 6
_OPEN_LIMIT_S = 300.0


class Bench(msgspec.Struct, frozen=True):
    """What was measured of one subject; raw times go along."""

    label: str
    latency_ms: Latency
    items_per_s: float
    open_ms: float
    peak_memory_bytes: int
    size_bytes: int
    notes: tuple[str, ...]
    measurement: Measurement
    environment: dict[str, Any]


class Comparison(msgspec.Struct, frozen=True):
    """How many times faster B is than A, and what may be said of it."""

    speedup: Interval
    verdict: Verdict
    control: Interval
    a: Bench
    b: Bench

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.verdict == "no measurable difference":
            return f"No measurable difference: {self.b.label} against {self.a.label} {self.speedup}"
        return f"{self.b.label} is {self.verdict} than {self.a.label}: {self.speedup}"


def bench(
    subject: Subject, *, rounds: int, seed: int, scratch: Path, progress: Progress | None = None
) -> Bench:
    """Time one subject; raises RuntimeFailureError when it fails."""
    (found,), notes = _measure([subject], rounds, seed, scratch, progress or Quiet())
    return _bench(subject, found, notes)


def compare(
    a: Subject,
    b: Subject,
    *,
    rounds: int,
    seed: int,
    scratch: Path,
    progress: Progress | None = None,
) -> Comparison:
    """Time two in interleaved rounds, with a second A beside them as the A/A control.

    Raises RuntimeFailureError when either fails.
    """
    measured, notes = _measure([a, a, b], rounds, seed, scratch, progress or Quiet())
    first, twin, other = measured
    control = twin.speedup_over(first, "latency")
    found = other.speedup_over(first, "latency")
    return Comparison(
        found,
        verdict(found, control),
        control,
        _bench(a, first, notes),
        _bench(b, other, notes),
    )


def _measure(
    subjects: Sequence[Subject], rounds: int, seed: int, scratch: Path, progress: Progress
) -> tuple[list[Measurement], list[str]]:
    order = random.Random(seed)  # noqa: S311 - an order of rounds, not a secret
    measured = [Measurement() for _ in subjects]
    blocks = min(_BLOCKS, rounds)
    before = Weather.now()
    with progress.stage("measuring", rounds) as advance:
        for block in range(blocks):
            share = rounds * (block + 1) // blocks - rounds * block // blocks
            with ExitStack() as stack:
                entrants = [
                    Entrant(stack.enter_context(Worker(scratch)), found) for found in measured
                ]
                for subject, entrant in zip(subjects, entrants, strict=True):
                    opened = entrant.worker.open(
                        subject.runtime,
                        subject.lowered,
                        subject.execution,
                        subject.samples,
                        _OPEN_LIMIT_S,
                    )
                    entrant.measurement.open_ns = opened.open_ns
                run_rounds(entrants, share, order, Deadline.after(None), lambda: advance(1))
                for entrant in entrants:
                    if entrant.failure:
                        raise RuntimeFailureError(entrant.failure)
                    peak = entrant.worker.peak_memory_bytes()
                    found = entrant.measurement
                    found.peak_memory_bytes = max(found.peak_memory_bytes, peak)
    return measured, [f"unsteady: {cause}" for cause in Weather.now().unrest_since(before)]


def _bench(subject: Subject, found: Measurement, notes: Sequence[str]) -> Bench:
    latency = found.latency("latency")
    item_ms = found.latency("throughput").p50
    return Bench(
        label=subject.label,
        latency_ms=latency,
        items_per_s=1e3 / item_ms,
        open_ms=found.open_ns / 1e6,
        peak_memory_bytes=found.peak_memory_bytes,
        size_bytes=subject.lowered.size_bytes,
        notes=tuple(notes),
        measurement=found,
        environment=environment(),
    )
