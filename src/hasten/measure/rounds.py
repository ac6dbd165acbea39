"""Interleaved rounds: every entrant runs once a round, each round in a new random order."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from hasten.errors import RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.patience import CutShortError, patiently
from hasten.measure.statistics import Interval, Latency, latency, speedup
from hasten.worker.process import Worker
from hasten.worker.protocol import Times

__all__ = ["Entrant", "Measurement", "Target", "run_rounds"]

#: What is made fast: one answer, or many answers a second.
Target = Literal["latency", "throughput"]

#: A turn lasts about this long: long enough to leave the switch between processes behind,
#: short enough that all entrants of a round meet the same weather.
_TURN_NS = 40_000_000
_SETTLE_NS = 4_000_000
_MAX_RUNS = 400
#: No answer within this many times the expected one, and at least this long, is a hang.
_PATIENCE = 50
_PATIENCE_S = 20.0
#: The same for the first turn, of which nothing is known.
_FIRST_PATIENCE_S = 60.0


class Measurement(msgspec.Struct):
    """Raw times of one candidate: block by block (a block has a process of its own), by round."""

    format_version: int = 1
    runs_ns: list[list[list[int]]] = []
    item_ns: list[list[float]] = []
    warmup_runs: int = 0
    open_ns: int = 0
    peak_memory_bytes: int = 0

    def rounds(self, target: Target) -> list[list[float]]:
        """One figure a round: the median run for latency, the time per item for throughput."""
        if target == "throughput":
            return self.item_ns
        return [[statistics.median(runs) for runs in block] for block in self.runs_ns]

    def latency(self, target: Target) -> Latency:
        """Percentiles over all single runs; of the time per item for throughput."""
        if target == "throughput":
            return latency([ns for block in self.item_ns for ns in block])
        return latency([ns for block in self.runs_ns for runs in block for ns in runs])

    def speedup_over(self, reference: Measurement, target: Target) -> Interval:
        """How many times faster than the reference, from the rounds they share."""
        return speedup(reference.rounds(target), self.rounds(target))

    @property
    def measured_rounds(self) -> int:
        """Rounds in all blocks together."""
        return sum(len(block) for block in self.runs_ns)


@dataclass(eq=False)
class Entrant:
    """A worker in the rounds, with what was measured of it so far."""

    worker: Worker
    measurement: Measurement = field(default_factory=Measurement)
    failure: str = ""
    is_open: bool = False
    runs: int = 0
    settle: int = 0
    expected_s: float = 0.0

    def size_turn(self, deadline: Deadline) -> None:
        """Choose how many runs make a turn, from one run that is not counted."""
        one_ns = max(1, *self._measure(1, 1, _FIRST_PATIENCE_S, deadline).runs_ns)
        self.runs = min(_MAX_RUNS, max(2, math.ceil(_TURN_NS / one_ns)))
        self.settle = min(_MAX_RUNS, max(1, math.ceil(_SETTLE_NS / one_ns)))
        self.expected_s = (self.runs + self.settle) * one_ns / 1e9
        self.measurement.warmup_runs += 2

    def take_turn(self, deadline: Deadline) -> None:
        """Run one turn and keep its times."""
        patience_s = max(_PATIENCE_S, _PATIENCE * self.expected_s)
        times = self._measure(self.runs, self.settle, patience_s, deadline)
        self.measurement.warmup_runs += self.settle
        self.measurement.runs_ns[-1].append(times.runs_ns)
        self.measurement.item_ns[-1].append(times.item_ns)

    def _measure(self, runs: int, settle: int, patience_s: float, deadline: Deadline) -> Times:
        return patiently(
            lambda limit_s: self.worker.measure(runs, settle, limit_s), patience_s, deadline
        )

    def begin_block(self) -> None:
        """Make room for the rounds of a new block."""
        self.measurement.runs_ns.append([])
        self.measurement.item_ns.append([])

    def keep_rounds(self, count: int) -> None:
        """Forget the rounds of this block after the first ``count``."""
        del self.measurement.runs_ns[-1][count:]
        del self.measurement.item_ns[-1][count:]


def run_rounds(
    entrants: Sequence[Entrant],
    rounds: int,
    order: random.Random,
    deadline: Deadline,
    advance: Callable[[], None] = lambda: None,
) -> int:
    """Measure one block of interleaved rounds; returns how many were completed.

    The first entrant is the reference: when it fails, RuntimeFailureError is raised. Any other
    that fails keeps its reason in ``failure`` and leaves. No turn is begun after the deadline, no
    round that is expected to pass it, and one that is in progress when it comes is forgotten.
    """
    for entrant in entrants:
        entrant.begin_block()
    done = 0
    try:
        _size_turns(entrants, deadline)
        while done < rounds:
            running = [entrant for entrant in entrants if not entrant.failure]
            if deadline.left_s < sum(entrant.expected_s for entrant in running):
                break
            order.shuffle(running)
            for entrant in running:
                _attempt(entrant, entrant.take_turn, deadline, is_reference=entrant is entrants[0])
            done += 1
            advance()
    except CutShortError:
        for entrant in entrants:
            entrant.keep_rounds(done)
    return done


def _size_turns(entrants: Sequence[Entrant], deadline: Deadline) -> None:
    for entrant in entrants:
        if not entrant.runs and not entrant.failure:
            _attempt(entrant, entrant.size_turn, deadline, is_reference=entrant is entrants[0])


def _attempt(
    entrant: Entrant, work: Callable[[Deadline], None], deadline: Deadline, *, is_reference: bool
) -> None:
    try:
        work(deadline)
    except RuntimeFailureError as failure:
        if is_reference:
            raise
        entrant.failure = str(failure)
