"""A heat: a handful of contestants, each in a worker process, measured beside the reference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from hasten.errors import HastenError, RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.process import Worker
from hasten.measure.rounds import Entrant, Measurement, Target, run_rounds
from hasten.measure.statistics import Interval, speedup
from hasten.progress import Advance, ignore
from hasten.runtimes import get_runtime
from hasten.tune.candidate import Contestant

__all__ = ["Heats", "Result"]

#: Workers alive at once, the reference included: bounds the memory of the whole race.
_LANES = 6
#: Opening may take this long, and for a runtime known to be slow, so many times its usual time.
_OPEN_LIMIT_S = 60.0
_SLOW_OPEN_FACTOR = 3.0


@dataclass(eq=False)
class Result:
    """What a heat found: the measurements of this heat alone, by contestant."""

    target: Target
    reference: Measurement
    measured: dict[Contestant, Measurement] = field(default_factory=dict)

    def speedup(self, contestant: Contestant, over: Contestant | None = None) -> Interval:
        """Ratio to the reference, or to another contestant, from the rounds of this heat."""
        base = self.reference if over is None else self.measured[over]
        return speedup(base.rounds(self.target), self.measured[contestant].rounds(self.target))


@dataclass(eq=False)
class Heats:
    """Runs heats for one reference, on one set of samples."""

    reference: Contestant
    samples: Path
    scratch: Path
    target: Target
    order: random.Random
    deadline: Deadline

    def screen(
        self, contestants: Sequence[Contestant], rounds: int, deadline: Deadline, advance: Advance
    ) -> None:
        """Measure them a few at a time and set each one's speedup over the reference.

        Those not begun when the deadline comes are dropped, with that reason.
        """
        lanes = _LANES - 1
        for first in range(0, len(contestants), lanes):
            group = contestants[first : first + lanes]
            if deadline.passed:
                for contestant in group:
                    contestant.drop("lost", "not raced: the time was up")
                continue
            result = self.heat(group, rounds, deadline=deadline)
            for contestant in result.measured:
                contestant.speedup = result.speedup(contestant)
            advance(len(group))

    def heat(
        self,
        contestants: Sequence[Contestant],
        rounds: int,
        *,
        blocks: int = 1,
        deadline: Deadline | None = None,
        advance: Advance = ignore,
    ) -> Result:
        """Measure these side by side; each block has fresh worker processes.

        A contestant that fails is dropped with its reason. Raises RuntimeFailureError when the
        reference fails, or when there was no time for a single round.
        """
        deadline = deadline or self.deadline
        result = Result(self.target, Measurement())
        for contestant in contestants:
            result.measured[contestant] = Measurement()
        for block in range(blocks):
            if block and deadline.passed:
                break
            self._block(contestants, result, rounds, deadline, advance)
        if not result.reference.measured_rounds:
            raise RuntimeFailureError("there was no time to measure the reference")
        for contestant in contestants:
            found = result.measured[contestant]
            failed = contestant.status == "failed"
            if failed or not found.measured_rounds:
                del result.measured[contestant]
                if not failed:
                    contestant.drop("lost", "not raced: the time was up")
            _keep(contestant, found)
        _keep(self.reference, result.reference)
        return result

    def _block(
        self,
        contestants: Sequence[Contestant],
        result: Result,
        rounds: int,
        deadline: Deadline,
        advance: Advance,
    ) -> None:
        runners = [one for one in contestants if one.status != "failed"]
        with ExitStack() as stack:
            # All start at once, so that they import side by side; nothing is timed yet.
            workers = [stack.enter_context(Worker(self.scratch)) for _ in range(len(runners) + 1)]
            entrants = [Entrant(workers[0], result.reference)]
            self._open(self.reference, entrants[0], deadline)
            entrants += [
                Entrant(worker, result.measured[contestant])
                for worker, contestant in zip(workers[1:], runners, strict=True)
            ]
            for contestant, entrant in zip(runners, entrants[1:], strict=True):
                try:
                    self._open(contestant, entrant, deadline)
                except HastenError as error:
                    entrant.failure = str(error)
            run_rounds(entrants, rounds, self.order, deadline, lambda: advance(1))
            for contestant, entrant in zip(runners, entrants[1:], strict=True):
                if entrant.failure:
                    contestant.drop("failed", entrant.failure)
            for entrant in entrants:
                _note_peak(entrant)

    def _open(self, contestant: Contestant, entrant: Entrant, deadline: Deadline) -> None:
        candidate = contestant.candidate
        if contestant.lowered is None:
            raise RuntimeFailureError(contestant.reason)
        usual_s = get_runtime(candidate.runtime).open_s
        limit_s = min(max(_OPEN_LIMIT_S, _SLOW_OPEN_FACTOR * usual_s), max(1.0, deadline.left_s))
        opened = entrant.worker.open(
            candidate.runtime, contestant.lowered, candidate.execution, self.samples, limit_s
        )
        entrant.measurement.open_ns = opened.open_ns


def _note_peak(entrant: Entrant) -> None:
    if not entrant.failure:
        peak = entrant.worker.peak_memory_bytes()
        entrant.measurement.peak_memory_bytes = max(entrant.measurement.peak_memory_bytes, peak)


def _keep(contestant: Contestant, found: Measurement) -> None:
    """Add a heat's measurement to all that is known of the contestant."""
    kept = contestant.measurement
    kept.runs_ns = [*kept.runs_ns, *found.runs_ns]
    kept.item_ns = [*kept.item_ns, *found.item_ns]
    kept.warmup_runs += found.warmup_runs
    kept.open_ns = found.open_ns or kept.open_ns
    kept.peak_memory_bytes = max(kept.peak_memory_bytes, found.peak_memory_bytes)
