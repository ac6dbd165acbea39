"""Timing one, and timing two in pairs: the race's measuring without the race."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hasten.errors import OptionError, RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.environment import Weather, environment
from hasten.measure.rounds import Entrant, Measurement, run_rounds
from hasten.measure.statistics import Interval, Latency, Verdict, verdict
from hasten.progress import Progress, Quiet
from hasten.runtimes import Device, Placement, get_runtime
from hasten.tune.resemblance import Resemblance
from hasten.tune.subject import Subject
from hasten.worker.process import Worker

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
    #: Where operators run, where the runtime tells.
    placement: Placement | None = None
    #: What the runtime can compute on here, and what it cannot and why.
    devices: tuple[Device, ...] = ()


class Comparison(msgspec.Struct, frozen=True):
    """How many times faster B is than A, what may be said of it, and whether B answers as A."""

    speedup: Interval
    verdict: Verdict
    control: Interval
    a: Bench
    b: Bench
    resemblance: Resemblance = Resemblance()

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.verdict == "no measurable difference":
            return f"No measurable difference: {self.b.label} against {self.a.label} {self.speedup}"
        return f"{self.b.label} is {self.verdict} than {self.a.label}: {self.speedup}"


def bench(
    subject: Subject,
    *,
    rounds: int,
    seed: int,
    scratch: Path,
    progress: Progress | None = None,
    fail_on_fallback: bool = False,
) -> Bench:
    """Time one subject; raises RuntimeFailureError when it fails.

    Raises OptionError with ``fail_on_fallback`` where not all of it runs where it was to run.
    """
    lane = _Lane(subject)
    notes = _measure([lane], rounds, seed, scratch, progress or Quiet(), whole=fail_on_fallback)
    return _bench(lane, notes)


def compare(
    a: Subject,
    b: Subject,
    *,
    rounds: int,
    seed: int,
    scratch: Path,
    progress: Progress | None = None,
    fail_on_fallback: bool = False,
) -> Comparison:
    """Time two in interleaved rounds, with a second A beside them as the A/A control.

    Raises RuntimeFailureError when either fails, and OptionError as ``bench`` does.
    """
    lanes = [_Lane(a), _Lane(a), _Lane(b)]
    notes = _measure(lanes, rounds, seed, scratch, progress or Quiet(), whole=fail_on_fallback)
    first, twin, other = (lane.measurement for lane in lanes)
    control = twin.speedup_over(first, "latency")
    found = other.speedup_over(first, "latency")
    return Comparison(
        found,
        verdict(found, control),
        control,
        _bench(lanes[0], notes),
        _bench(lanes[2], notes),
    )


@dataclass(eq=False)
class _Lane:
    """A subject and what is learnt of it."""

    subject: Subject
    measurement: Measurement = field(default_factory=Measurement)
    placement: Placement | None = None

    def open(self, entrant: Entrant, *, whole: bool) -> None:
        """Compile in the entrant's worker."""
        subject = self.subject
        opened = entrant.worker.open(
            subject.runtime, subject.lowered, subject.execution, subject.samples, _OPEN_LIMIT_S
        )
        self.measurement.open_ns = opened.open_ns
        self.placement = opened.placement
        if whole and opened.placement is not None and opened.placement.fallbacks:
            raise OptionError(
                expected=f"a model that {opened.placement.wanted} runs as a whole",
                got=f"{subject.label}, of which {opened.placement.fallback}",
                where="--fail-on-fallback",
            )


def _measure(
    lanes: Sequence[_Lane],
    rounds: int,
    seed: int,
    scratch: Path,
    progress: Progress,
    *,
    whole: bool,
) -> list[str]:
    """Measure each lane; returns what was unsteady meanwhile."""
    order = random.Random(seed)  # noqa: S311 - an order of rounds, not a secret
    blocks = min(_BLOCKS, rounds)
    before = Weather.now()
    with progress.stage("measuring", rounds) as advance:
        for block in range(blocks):
            share = rounds * (block + 1) // blocks - rounds * block // blocks
            with ExitStack() as stack:
                entrants = [
                    Entrant(stack.enter_context(Worker(scratch)), lane.measurement)
                    for lane in lanes
                ]
                for lane, entrant in zip(lanes, entrants, strict=True):
                    lane.open(entrant, whole=whole)
                run_rounds(entrants, share, order, Deadline.after(None), lambda: advance(1))
                for entrant in entrants:
                    if entrant.failure:
                        raise RuntimeFailureError(entrant.failure)
                    peak = entrant.worker.peak_memory_bytes()
                    found = entrant.measurement
                    found.peak_memory_bytes = max(found.peak_memory_bytes, peak)
    return [f"unsteady: {cause}" for cause in Weather.now().unrest_since(before)]


def _bench(lane: _Lane, notes: Sequence[str]) -> Bench:
    subject, found = lane.subject, lane.measurement
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
        placement=lane.placement,
        devices=get_runtime(subject.runtime).probe().devices,
    )
