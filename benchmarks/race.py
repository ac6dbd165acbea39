"""Is the race right, and is it quick? Five seeds against measuring everything.

Run: python benchmarks/race.py (about a quarter of an hour). Every candidate for the demo's network
on all cores is measured as long as a finalist is and judged on the same images; then five races
choose among the same candidates. Each pick must be within 5 % of the best by the exhaustive
figures, in at most half of the exhaustive time.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, report
from hasten.compress import Context
from hasten.data import Top1
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
        self.judge = Judge(Top1(), Budget(_MAX_DROP), given.held_out, staged, scratch, never)
        self.judge.judge_reference(self.reference)


def main() -> int:
    """Measure all, race five times, compare."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        given = solar(scratch, held_out=_IMAGES)
        begin = time.monotonic()
        exhaustive = measure_all(Course(given, scratch / "all", 0))
        whole_s = time.monotonic() - begin
        best = max(exhaustive, key=lambda candidate: exhaustive[candidate])
        print(f"exhaustive: {len(exhaustive)} within budget, {whole_s:.0f} s")
        print(f"best: {best.label} {exhaustive[best]:.3f}x", flush=True)
        picks, shares = [], []
        for seed in range(_SEEDS):
            begin = time.monotonic()
            pick = race(Course(given, scratch / f"race-{seed}", seed))
            share = (time.monotonic() - begin) / whole_s
            quality = exhaustive.get(pick, 0.0) / exhaustive[best]
            print(
                f"seed {seed}: {pick.label} at {quality:.3f} of the best, {share:.2f} of the time",
                flush=True,
            )
            picks.append(quality)
            shares.append(share)
    good = sum(quality >= _WITHIN for quality in picks)
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
