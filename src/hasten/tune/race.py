"""The race: who is fastest among those that keep the accuracy, in as little time as is honest.

Screening measures every candidate for a few rounds beside the reference. The fastest whose
accuracy holds leads; whoever's interval lies wholly behind the leader's is out, whoever is left is
judged, and halved until a handful remains. The finalists are confirmed in fresh processes, with an
A/A control beside them. Successive halving after Jamieson and Talwalkar, Non-stochastic Best Arm
Identification and Hyperparameter Optimization, AISTATS 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hasten.bundle.manifest import PrecisionPoint
from hasten.errors import OptionError, RefusedError, RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.statistics import Interval, verdict
from hasten.progress import Progress, ignore
from hasten.runtimes import get_runtime
from hasten.tune.candidate import Contestant
from hasten.tune.heat import Heats, Result
from hasten.tune.judge import Judge
from hasten.tune.mixing import Mixing

__all__ = ["Outcome", "Pace", "Race"]

#: How much slower, by the median, a plan that asks for less may be to be preferred.
_AS_FAST = 1.03


@dataclass(frozen=True)
class Pace:
    """How many rounds each part of the race takes."""

    screen_rounds: int = 4
    halving_rounds: int = 8
    final_rounds: int = 4
    final_blocks: int = 6
    finalists: int = 4
    #: Shares of the time after which screening, and judging, make way for what follows.
    screen_share: float = 0.4
    judge_share: float = 0.55
    #: Share of the time left after screening in which float blocks may be looked for.
    mixing_share: float = 0.4
    #: A plan this many times behind the leader is not tried with other threads or batches;
    #: nor, this many times behind, with another precision, which may gain more.
    hopeless: float = 2.0
    hopeless_precision: float = 4.0


@dataclass(eq=False)
class Outcome:
    """How the race ended: ``winner`` is the reference itself where nothing was better."""

    winner: Contestant
    speedup: Interval
    control: Interval | None = None
    notes: list[str] = field(default_factory=list)
    frontier: tuple[PrecisionPoint, ...] = ()


@dataclass(eq=False)
class Race:
    """One race, run once.

    ``contestants`` may still win. ``needed_until`` is how long the confirmation may take for the
    blocks that it needs, where that is longer than the race.
    """

    reference: Contestant
    contestants: list[Contestant]
    alternates: Callable[[Contestant], list[Contestant]]
    heats: Heats
    judge: Judge
    deadline: Deadline
    progress: Progress
    pace: Pace = field(default_factory=Pace)
    notes: list[str] = field(default_factory=list)
    needed_until: Deadline | None = None
    mixing: Mixing | None = None
    frontier: tuple[PrecisionPoint, ...] = ()

    def run(self) -> Outcome:
        """Race to the end, to the deadline or to Ctrl-C; the best so far wins in every case.

        Raises RuntimeFailureError when the reference cannot be measured, and KeyboardInterrupt
        when it comes before anything was.
        """
        screen_until = self.deadline.after_share(self.pace.screen_share)
        judge_until = self.deadline.after_share(self.pace.judge_share)
        try:
            self._screen(screen_until)
            self._mix(self.deadline.after_share(self.pace.mixing_share))
            # Where mixing took long, judging still has a share of what is left.
            judge_until = max(
                judge_until,
                self.deadline.after_share(1 - self.pace.judge_share),
                key=lambda until: until.left_s,
            )
            return self._confirm(self._finalists(judge_until))
        except KeyboardInterrupt:
            if not self.reference.measurement.measured_rounds:
                raise
            self.notes.append("interrupted: the best so far was taken, without confirmation")
        return self._unconfirmed()

    def _screen(self, until: Deadline) -> None:
        """Measure each plan with its first execution, then the promising ones with the others."""
        self._refuse_slow_openers()
        seen: set[object] = set()
        first: list[Contestant] = []
        rest: list[Contestant] = []
        for contestant in self._racing():
            (rest if _plan(contestant) in seen else first).append(contestant)
            seen.add(_plan(contestant))
        with self.progress.stage("screening", len(first) + len(rest)) as advance:
            self.heats.screen(first, self.pace.screen_rounds, until, advance)
            self._hold_to_goals()
            leader = self._leader()
            hopeful = self._drop_hopeless(rest, first, leader)
            self.heats.screen(hopeful, self.pace.screen_rounds, until, advance)
            self._hold_to_goals()

    def _refuse_slow_openers(self) -> None:
        for contestant in self._racing():
            open_s = get_runtime(contestant.candidate.runtime).open_s
            if open_s > self.deadline.left_s / 5:
                contestant.drop(
                    "lost",
                    f"not raced: opening takes about {open_s:.0f} s and only"
                    f" {self.deadline.left_s:.0f} s were left; give more --time",
                )

    def _hold_to_goals(self) -> None:
        """Drop whoever misses the size or memory goal, unless all of them do."""
        missing = {c: reason for c in self._racing() if (reason := self._missed(c))}
        if len(missing) < len(self._racing()):
            for contestant, reason in missing.items():
                contestant.drop("over_budget", reason)

    def _leader(self) -> Contestant | None:
        """Return the fastest measured contestant whose accuracy holds, judging on the way."""
        while True:
            fastest = max(self._measured(), key=_median, default=None)
            if fastest is None or fastest.score is not None:
                return fastest
            if not self.judge.judge(fastest):
                self._try_alternates(fastest)

    def _try_alternates(self, dropped: Contestant) -> None:
        """Other calibrators get their turn when the first choice lost a little too much."""
        if dropped.status != "over_budget" or self.judge.is_hopeless(dropped):
            return
        revived = [one for one in self.alternates(dropped) if self.judge.judge(one)]
        self.heats.screen(revived, self.pace.screen_rounds, self.deadline, ignore)

    def _mix(self, until: Deadline) -> None:
        """Enter a mixture of int8 and float blocks where all int8 leaves something to be gained."""
        plan = self.mixing.plan(self.contestants, self._leader()) if self.mixing else None
        if self.mixing is None or plan is None:
            return
        try:
            found = self.mixing.search(plan, until)
        except (RefusedError, RuntimeFailureError) as refused:
            self.notes.append(f"no mixed precision: {refused}")
            return
        if found is not None:
            self.notes += found.notes
            self.frontier = found.points
            entered = found.contestant()
            if entered is not None:
                self.contestants.append(entered)
                if self.judge.judge(entered):
                    self.heats.screen([entered], self.pace.screen_rounds, self.deadline, ignore)

    def _drop_hopeless(
        self,
        rest: Sequence[Contestant],
        first: Sequence[Contestant],
        leader: Contestant | None,
    ) -> list[Contestant]:
        pioneers = {_plan(contestant): contestant for contestant in first}
        hopeful = []
        for contestant in rest:
            pioneer = pioneers[_plan(contestant)]
            if not contestant.racing:
                continue
            if not pioneer.racing:
                contestant.drop(pioneer.status, f"as {pioneer.label}: {pioneer.reason}")
                continue
            behind = _median(leader) / max(_median(pioneer), 1e-9) if leader else 1.0
            same_precision = contestant.candidate.execution.hint == pioneer.candidate.execution.hint
            pace = self.pace
            if behind > (pace.hopeless if same_precision else pace.hopeless_precision):
                contestant.drop(
                    "lost",
                    f"not raced: with {pioneer.candidate.execution} it is {behind:.1f}x behind"
                    " the leader",
                )
            else:
                hopeful.append(contestant)
        # The likeliest first: the time may not be enough for all.
        return sorted(hopeful, key=lambda one: -_median(pioneers[_plan(one)]))

    def _finalists(self, until: Deadline) -> list[Contestant]:
        """Drop all behind the leader, judge the rest, and halve until a handful is left."""
        while True:
            unjudged = [one for one in self._contenders() if one.score is None]
            for contestant in unjudged:
                if until.passed:
                    contestant.drop("lost", "not judged: the time was up")
                elif not self.judge.judge(contestant):
                    self._try_alternates(contestant)
            if unjudged:
                continue
            contenders = self._contenders()
            if len(contenders) <= self.pace.finalists or until.passed:
                return contenders[: self.pace.finalists]
            self._halve(contenders)

    def _contenders(self) -> list[Contestant]:
        """Return those not behind the leader, the fastest first; the others are out."""
        leader = self._leader()
        if leader is None or leader.speedup is None:
            return []
        for contestant in self._measured():
            found = contestant.speedup
            if found is not None and found.high < leader.speedup.low:
                contestant.drop(
                    "lost", f"behind the leader: {found} against {leader.speedup} ({leader.label})"
                )
        return sorted(self._measured(), key=_median, reverse=True)

    def _halve(self, contenders: Sequence[Contestant]) -> None:
        with self.progress.stage("halving", len(contenders)) as advance:
            self.heats.screen(contenders, self.pace.halving_rounds, self.deadline, advance)
        ranked = sorted((c for c in contenders if c.racing), key=_median, reverse=True)
        keep = max(self.pace.finalists, len(ranked) // 2)
        for contestant in ranked[keep:]:
            contestant.drop(
                "lost", f"{contestant.speedup} over the reference was not among the best {keep}"
            )

    def _confirm(self, finalists: list[Contestant]) -> Outcome:
        """Measure the finalists in fresh processes, beside an A/A control, and choose."""
        twin = Contestant(self.reference.candidate, self.reference.model, self.reference.lowered)
        rounds = self.pace.final_rounds * self.pace.final_blocks
        with self.progress.stage("confirming", rounds) as advance:
            result = self.heats.heat(
                [*finalists, twin],
                self.pace.final_rounds,
                blocks=self.pace.final_blocks,
                needed_until=self.needed_until,
                advance=advance,
            )
        control = result.speedup(twin) if twin in result.measured else None
        confirmed = [contestant for contestant in finalists if contestant in result.measured]
        if confirmed:
            self.reference.measurement = result.reference
        for contestant in confirmed:
            contestant.speedup = result.speedup(contestant)
            contestant.measurement = result.measured[contestant]
        self._note_control(control)
        blocks = sum(1 for block in result.reference.runs_ns if block)
        if blocks < self.pace.final_blocks:
            self.notes.append(
                f"confirmed in {blocks} of {self.pace.final_blocks} blocks: the time was up"
            )
        if not confirmed:
            return self._unconfirmed(control)
        best = max(confirmed, key=_median)
        winner = _plainest_equal(best, confirmed, result, control)
        return self._decide(winner, confirmed, control)

    def _note_control(self, control: Interval | None) -> None:
        if control is not None and verdict(control) != "no measurable difference":
            self.notes.append(
                f"the reference differed from itself by {control}: only differences beyond that"
                " were called"
            )

    def _unconfirmed(self, control: Interval | None = None) -> Outcome:
        """Choose among what was measured and judged, when there was no time for more."""
        judged = [contestant for contestant in self._measured() if contestant.score is not None]
        if not self.reference.measurement.measured_rounds:
            raise OptionError(
                expected="time to measure the reference",
                got="none left after preparing",
                where="--time",
                hint="give more, such as --time 10m",
            )
        if not judged:
            return self._keep_reference("nothing else was measured and within the budget", control)
        return self._decide(max(judged, key=_median), judged, control)

    def _decide(
        self, winner: Contestant, confirmed: Iterable[Contestant], control: Interval | None
    ) -> Outcome:
        if winner.speedup is None:
            raise RuntimeFailureError("the winner was not measured")
        for other in confirmed:
            if other is not winner:
                other.reason = f"{other.speedup} over the reference; {winner.label} is preferred"
        goal_missed = self._missed(self.reference)
        if verdict(winner.speedup, control) != "faster" and not goal_missed:
            winner.drop("lost", f"no measurable gain over the reference: {winner.speedup}")
            return self._keep_reference("nothing was measurably faster within the budget", control)
        if goal_missed:
            self.notes.append(f"the reference misses a goal: {goal_missed}")
        winner.status = "won"
        return Outcome(winner, winner.speedup, control, self.notes, self.frontier)

    def _keep_reference(self, why: str, control: Interval | None = None) -> Outcome:
        self.notes.append(f"the reference stays: {why}")
        self.reference.status = "won"
        same = Interval(1.0, 1.0, 1.0)
        return Outcome(self.reference, same, control, self.notes, self.frontier)

    def _missed(self, contestant: Contestant) -> str:
        """Say which of the goals it misses; empty where it meets them."""
        memory_bytes = contestant.measurement.peak_memory_bytes
        return self.judge.budget.missed(contestant.size_bytes, memory_bytes)

    def _racing(self) -> list[Contestant]:
        return [contestant for contestant in self.contestants if contestant.racing]

    def _measured(self) -> list[Contestant]:
        return [contestant for contestant in self._racing() if contestant.speedup is not None]


def _plan(contestant: Contestant) -> tuple[object, ...]:
    """What stays the same when only the execution changes."""
    candidate = contestant.candidate
    return (candidate.steps, candidate.runtime, candidate.execution.offload)


def _median(contestant: Contestant) -> float:
    return contestant.speedup.median if contestant.speedup else 0.0


def _plainest_equal(
    best: Contestant,
    confirmed: Sequence[Contestant],
    result: Result,
    control: Interval | None,
) -> Contestant:
    """Of those as fast as the best, return the one that asks for least.

    As fast is who the best is not measurably faster than, and who is within a few percent of it:
    on a restless machine intervals are wide, and a difference that could not be resolved is no
    proof that there is none.
    """
    equal = []
    for other in confirmed:
        ahead = result.speedup(best, over=other)
        if verdict(ahead, control) != "faster" and ahead.median <= _AS_FAST:
            equal.append(other)
    return min(
        [best, *equal], key=lambda contestant: (contestant.candidate.effort, -_median(contestant))
    )
