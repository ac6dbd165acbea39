"""A heat: a handful of contestants, each in a worker process, measured beside the reference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from hasten.errors import HastenError, RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.patience import CutShortError, patiently
from hasten.measure.rounds import Entrant, Measurement, Target, run_rounds
from hasten.measure.statistics import TELLING_BLOCKS, Interval, speedup
from hasten.progress import Advance, ignore
from hasten.runtimes import get_runtime
from hasten.tune.candidate import Contestant
from hasten.worker.process import Worker

__all__ = ["Heats", "Result"]

#: Workers alive at once beside the reference: bounds the memory of the whole race.
_LANES = 7
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
    #: Whether a contestant fails that runs only a part of the model where it was to run it all.
    fail_on_fallback: bool = False

    def screen(
        self, contestants: Sequence[Contestant], rounds: int, deadline: Deadline, advance: Advance
    ) -> None:
        """Measure them a few at a time and set each one's speedup over the reference.

        One reference process runs beside all of them. Those whose turn does not come before the
        deadline are dropped, with that reason.
        """
        runners = [contestant for contestant in contestants if contestant.racing]
        if not runners:
            return
        with Worker(self.scratch) as worker:
            reference = Entrant(worker)
            for first in range(0, len(runners), _LANES):
                group = runners[first : first + _LANES]
                result = Result(self.target, Measurement(), {one: Measurement() for one in group})
                reference.measurement = result.reference
                if not deadline.passed:
                    self._block(reference, result, rounds, deadline, ignore)
                self._conclude(result)
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
        needed_until: Deadline | None = None,
        advance: Advance = ignore,
    ) -> Result:
        """Measure these side by side; each block has fresh worker processes.

        The first blocks, as many as an interval needs, may take until ``needed_until``. A
        contestant that fails is dropped with its reason. Raises RuntimeFailureError when the
        reference fails. There may have been no time for any round: then nothing is measured.
        """
        deadline = deadline or self.deadline
        result = Result(self.target, Measurement(), {one: Measurement() for one in contestants})
        block_s = 0.0
        for block in range(blocks):
            until = deadline if block >= TELLING_BLOCKS else needed_until or deadline
            left_s = until.left_s
            if left_s <= block_s:  # part of a block would weigh as much as a whole one
                break
            with Worker(self.scratch) as worker:
                reference = Entrant(worker, result.reference)
                self._block(reference, result, rounds, until, advance)
            block_s = left_s - until.left_s
        self._conclude(result)
        return result

    def _block(
        self,
        reference: Entrant,
        result: Result,
        rounds: int,
        deadline: Deadline,
        advance: Advance,
    ) -> None:
        """Run one block of rounds with new workers for all but the reference."""
        runners = [one for one in result.measured if one.status != "failed"]
        with ExitStack() as stack:
            entrants = [
                Entrant(stack.enter_context(Worker(self.scratch)), result.measured[one])
                for one in runners
            ]
            lanes = list(zip(runners, entrants, strict=True))
            if not reference.is_open:
                lanes.insert(0, (self.reference, reference))
            try:
                self._open(lanes, deadline)
            except CutShortError:
                return
            run_rounds([reference, *entrants], rounds, self.order, deadline, lambda: advance(1))
            for contestant, entrant in zip(runners, entrants, strict=True):
                if entrant.failure:
                    contestant.drop("failed", entrant.failure)
            for entrant in (reference, *entrants):
                _note_peak(entrant)

    def _conclude(self, result: Result) -> None:
        """Add what was measured to what is known; drop those that failed or had no turn."""
        _keep(self.reference, result.reference)
        for contestant, found in list(result.measured.items()):
            _keep(contestant, found)
            if contestant.status == "failed" or not found.measured_rounds:
                del result.measured[contestant]
                if contestant.racing and contestant.speedup is None:
                    contestant.drop("lost", "not raced: the time was up")

    def _open(self, lanes: Sequence[tuple[Contestant, Entrant]], deadline: Deadline) -> None:
        """Compile all of them side by side, each in its worker: nothing is timed yet.

        A failure is kept with its entrant; that of the reference is raised. Raises CutShortError
        when the deadline comes first.
        """
        for contestant, entrant in lanes:
            candidate, lowered = contestant.candidate, contestant.lowered
            if lowered is None:
                raise RuntimeFailureError(contestant.reason)
            entrant.worker.begin_open(candidate.runtime, lowered, candidate.execution, self.samples)
        for contestant, entrant in lanes:
            usual_s = get_runtime(contestant.candidate.runtime).open_s
            limit_s = max(_OPEN_LIMIT_S, _SLOW_OPEN_FACTOR * usual_s)
            try:
                opened = patiently(entrant.worker.opened, limit_s, deadline)
            except HastenError as error:
                if contestant is self.reference:
                    raise
                entrant.failure = str(error)
            else:
                entrant.is_open = True
                contestant.placement = opened.placement
                if contestant is not self.reference:
                    entrant.failure = self._fallback(contestant)
                entrant.measurement.open_ns = opened.open_ns

    def _fallback(self, contestant: Contestant) -> str:
        """Why its placement is a failure; empty where it is none."""
        if not self.fail_on_fallback or contestant.placement is None:
            return ""
        return contestant.placement.fallback


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
