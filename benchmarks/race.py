"""Is the race right, and is it quick? Five seeds against measuring everything.

Run: python benchmarks/race.py (about 25 minutes). Every candidate for the demo's network on all
cores is measured as long as a finalist is and judged on the same images; then five races choose
among the same candidates. Whatever came near the best is then measured once more, side by side:
many candidates are equally fast (ranges cost nothing), and the highest of their figures would be
the luckiest. Each pick must be within 5 % of the best by these figures, in at most half of the time
of the first, exhaustive measurement.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from figures import Figure, report
from hasten.compress import Context
from hasten.data import METRICS
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.progress import Quiet
from hasten.tune.budget import Budget
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.field import Field
from hasten.tune.heat import Heats
from hasten.tune.judge import Judge
from hasten.tune.race import Pace, Race
from hasten.tune.settings import Settings
from solar import Solar, solar

_SEEDS = 5
_IMAGES = 128
_MAX_DROP = 0.02
_WITHIN = 0.95
_SHARE_OF_TIME = 0.5
_GROUP = 7
#: What is measured again: all that came this near to the best. Those that differ in ranges alone
#: run the same program, and may lie this far apart by chance.
_NEAR = 0.85
_SETTLING_BLOCKS = 8


class Course:
    """Everything that one contest needs, made anew for each so that nothing is reused."""

    def __init__(self, given: Solar, scratch: Path, seed: int) -> None:
        scratch.mkdir()
        context = Context(scratch, given.calibration, given.held_out.preprocessing, Quiet())
        self.builder = Builder(given.model, context)
        settings = Settings(seed=seed, threads=physical_cores())
        self.field = Field(given.model, self.builder, settings, Quiet())
        staged = scratch / "validation"
        given.held_out.save(staged)
        self.reference = self.builder.contestant(self.field.reference)
        never = Deadline.after(None)
        order = random.Random(seed)  # noqa: S311
        self.heats = Heats(self.reference, staged, scratch, "latency", order, never)
        self.judge = Judge(
            METRICS["top1"], Budget(_MAX_DROP), given.held_out, staged, scratch, never
        )
        self.judge.judge_reference(self.reference)


def main() -> int:
    """Measure all, race five times, compare."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        given = solar(scratch, held_out=_IMAGES)
        begin = time.monotonic()
        course = Course(given, scratch / "all", 0)
        exhaustive = measure_all(course)
        whole_s = time.monotonic() - begin
        print(f"exhaustive: {len(exhaustive)} within budget, {whole_s:.0f} s", flush=True)
        picks, shares = [], []
        for seed in range(_SEEDS):
            begin = time.monotonic()
            picks.append(race(Course(given, scratch / f"race-{seed}", seed)))
            shares.append((time.monotonic() - begin) / whole_s)
            print(f"seed {seed}: {picks[-1].label}, {shares[-1]:.2f} of the time", flush=True)
        settled = settle(course, exhaustive, picks)
    best = max(settled, key=lambda candidate: settled[candidate])
    for candidate in sorted(settled, key=lambda candidate: -settled[candidate]):
        print(f"{settled[candidate]:.3f}x side by side  {candidate.label}")
    good = sum(settled.get(pick, 0.0) >= _WITHIN * settled[best] for pick in picks)
    return report(
        [
            Figure(
                "races whose pick is within 5 % of the best",
                f"{good} of {_SEEDS}",
                f"{_SEEDS} of {_SEEDS}",
                good == _SEEDS,
            ),
            Figure(
                "longest race / exhaustive measurement",
                f"{max(shares):.2f}",
                f"<= {_SHARE_OF_TIME}",
                max(shares) <= _SHARE_OF_TIME,
            ),
        ]
    )


def measure_all(course: Course) -> dict[Candidate, float]:
    """Speedup of each candidate within the budget, measured as a finalist is."""
    pace = Pace()
    contestants = [ready(course, contestant) for contestant in course.field.make()]
    runners = [contestant for contestant in contestants if contestant.racing]
    found = {}
    for first in range(0, len(runners), _GROUP):
        group = runners[first : first + _GROUP]
        result = course.heats.heat(group, pace.final_rounds, blocks=pace.final_blocks)
        for contestant in result.measured:
            if course.judge.judge(contestant):
                found[contestant.candidate] = result.speedup(contestant).median
    return found


def settle(
    course: Course, exhaustive: dict[Candidate, float], picks: Sequence[Candidate]
) -> dict[Candidate, float]:
    """Speedup of all that came near the best, and of what the races picked, side by side."""
    near = _NEAR * max(exhaustive.values())
    wanted = {one for one, found in exhaustive.items() if found >= near} | set(picks)
    contestants = [course.builder.contestant(one) for one in wanted if one in exhaustive]
    result = course.heats.heat(contestants, Pace().final_rounds, blocks=_SETTLING_BLOCKS)
    return {one.candidate: result.speedup(one).median for one in result.measured}


def ready(course: Course, contestant: Contestant) -> Contestant:
    """Build a candidate that the race would have held back."""
    if contestant.lowered is None and contestant.status == "lost":
        return course.builder.contestant(contestant.candidate)
    return contestant


def race(course: Course) -> Candidate:
    """Return what the race picks."""
    outcome = Race(
        course.reference,
        course.field.make(),
        course.field.alternates,
        course.heats,
        course.judge,
        Deadline.after(None),
        Quiet(),
    ).run()
    return outcome.winner.candidate


if __name__ == "__main__":
    sys.exit(main())
