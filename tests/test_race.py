"""The race, with contestants of known costs in real worker processes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from hasten.bundle.manifest import Interval, PrecisionPoint
from hasten.compress import DynamicInt8, StaticInt8, StepConfig, WeightInt8
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.data import Samples
from hasten.errors import OptionError, RuntimeFailureError
from hasten.graph import Signature, TensorSpec
from hasten.measure.clock import Deadline
from hasten.measure.statistics import verdict
from hasten.progress import Quiet
from hasten.runtimes import Execution, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.heat import Heats
from hasten.tune.judge import Judge
from hasten.tune.mixing import Mixing
from hasten.tune.race import Outcome, Pace, Race
from planted_metrics import Width
from workers import null_model, saved_samples

#: Cost of one run of the reference: far above what a worker process adds to it.
COST_NS = 4_000_000
CHAINS: tuple[tuple[StepConfig, ...], ...] = (
    (StaticInt8("u8"),),
    (StaticInt8("s8"),),
    (WeightInt8(),),
    (DynamicInt8(),),
)
#: Final rounds enough for a median and its interval to outlive a hiccup of the machine.
QUICK = Pace(screen_rounds=3, halving_rounds=3, final_rounds=4, final_blocks=4)

pytestmark = pytest.mark.quiet


class Track:
    """Makes contestants, and the race between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = saved_samples(folder / "samples")
        self.reference = self.contestant((), cost_ns=COST_NS)

    def contestant(
        self,
        steps: tuple[StepConfig, ...],
        *,
        loses: int = 0,
        threads: int = 1,
        **behaviour: object,
    ) -> Contestant:
        """One that answers rows of ``3 + loses`` values."""
        made = null_model(**behaviour)
        folder = self.folder / f"{random.random()}"  # noqa: S311 - a name of its own
        folder.mkdir()
        lowered = get_runtime("null").lower(made, folder)
        outputs = (TensorSpec("y", "float32", (None, 3 + loses)),)
        signature = Signature(lowered.signature.inputs, outputs)
        lowered = msgspec.structs.replace(lowered, signature=signature)
        candidate = Candidate(steps, "null", Execution(threads))
        return Contestant(candidate, made, lowered)

    def field(self, *speeds: float) -> list[Contestant]:
        """Contestants that are so many times as fast as the reference."""
        return [
            self.contestant(chain, cost_ns=int(COST_NS / speed))
            for chain, speed in zip(CHAINS, speeds, strict=False)
        ]

    def race(
        self,
        contestants: list[Contestant],
        *,
        budget: Budget | None = None,
        time_s: float | None = None,
        alternates: Callable[[Contestant], list[Contestant]] = lambda _: [],
        reference: Contestant | None = None,
        mixing: object | None = None,
    ) -> Outcome:
        deadline = Deadline.after(time_s)
        reference = reference or self.reference
        order = random.Random(0)  # noqa: S311 - an order of rounds
        validation = Samples({"x": np.zeros((5, 4), np.float32)})
        judge = Judge(Width(), budget or Budget(), validation, self.samples, self.folder, deadline)
        judge.judge_reference(reference)
        heats = Heats(reference, self.samples, self.folder, "latency", order, deadline)
        race = Race(reference, contestants, alternates, heats, judge, deadline, Quiet(), QUICK)
        race.mixing = cast("Mixing | None", mixing)
        return race.run()


@pytest.fixture
def track(tmp_path: Path) -> Track:
    return Track(tmp_path)


class Ran:
    """One race with everything in it: contestants by name, and how it ended."""

    def __init__(self, track: Track) -> None:
        self.track = track
        names = ("fast", "lossy", "behind", "slow", "compile", "run", "crash", "nan")
        plain = StaticInt8()
        chains = [
            (msgspec.structs.replace(plain, activations=kind, calibrator=name),)
            for kind in ("u8", "s8")
            for name in CALIBRATORS
        ]
        ways: list[dict[str, Any]] = [
            {"cost_ns": COST_NS // 4},
            {"cost_ns": COST_NS // 8, "loses": 2},
            {"cost_ns": COST_NS // 2},
            {"cost_ns": COST_NS * 2},
            *({"cost_ns": COST_NS // 16, "fail": fail} for fail in names[4:]),
        ]
        self.by_name = {
            name: track.contestant(chain, **way)
            for name, chain, way in zip(names, chains, ways, strict=True)
        }
        self.outcome = track.race(list(self.by_name.values()), budget=Budget(max_drop=0.15))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(Track(tmp_path_factory.mktemp("race")))


def test_the_fastest_within_the_budget_wins(ran: Ran) -> None:
    assert ran.outcome.winner is ran.by_name["fast"]
    assert ran.outcome.winner.status == "won"


def test_the_speedup_is_what_was_planted(ran: Ran) -> None:
    assert ran.outcome.speedup.median == pytest.approx(4.0, rel=0.2)


def test_the_gain_lies_beyond_an_aa_control_that_runs_along(ran: Ran) -> None:
    assert ran.outcome.control is not None
    assert verdict(ran.outcome.speedup, ran.outcome.control) == "faster"


def test_every_other_ends_with_a_status_and_a_reason_of_one_line(ran: Ran) -> None:
    for name, contestant in ran.by_name.items():
        if name != "fast":
            assert contestant.status in {"lost", "over_budget", "failed"}
            assert contestant.reason
            assert "\n" not in contestant.reason


def test_a_faster_one_over_the_budget_is_listed_so(ran: Ran) -> None:
    assert ran.by_name["lossy"].status == "over_budget"
    assert ran.by_name["lossy"].reason == "loses 0.2000 of width, 0.15 is allowed"


@pytest.mark.parametrize("name", ["behind", "slow"])
def test_one_behind_the_leader_lost_to_it_by_name(name: str, ran: Ran) -> None:
    assert ran.by_name[name].status == "lost"
    assert ran.by_name["fast"].label in ran.by_name[name].reason


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("compile", "could not compile"),
        ("run", "could not run"),
        ("crash", "crashed while running for the first time: SIGSEGV"),
        ("nan", "NaN"),
    ],
)
def test_one_that_fails_is_listed_and_the_race_goes_on(fail: str, words: str, ran: Ran) -> None:
    assert ran.by_name[fail].status == "failed"
    assert words in ran.by_name[fail].reason


def test_a_drop_of_exactly_what_is_allowed_is_allowed(track: Track) -> None:
    lossy = track.contestant(CHAINS[0], cost_ns=COST_NS // 4, loses=2)
    assert track.race([lossy], budget=Budget(max_drop=0.2)).winner is lossy


def test_of_two_that_are_equally_fast_the_one_with_less_effort_wins(track: Track) -> None:
    both = (*CHAINS[0], *CHAINS[2])
    field = [
        track.contestant(both, cost_ns=COST_NS // 3, jitter=0.05),
        track.contestant(CHAINS[1], cost_ns=COST_NS // 3, jitter=0.05),
    ]
    outcome = track.race(field)
    assert outcome.winner is field[1]
    assert "is preferred" in field[0].reason


def test_the_reference_stays_where_nothing_is_faster(track: Track) -> None:
    field = track.field(0.5, 0.8)
    outcome = track.race(field)
    assert outcome.winner is track.reference
    assert track.reference.status == "won"
    assert outcome.speedup.median == 1.0
    assert all(one.status == "lost" and one.reason for one in field)
    assert any("the reference stays" in note for note in outcome.notes)


def test_one_that_hangs_does_not_take_the_race_beyond_its_time(track: Track) -> None:
    hanging = track.contestant(CHAINS[0], fail="hang_run")
    deadline = Deadline.after(8.0)
    outcome = track.race([hanging], time_s=6.0)
    assert not deadline.passed
    assert outcome.winner is track.reference


def test_without_contestants_the_reference_is_measured_and_stays(track: Track) -> None:
    outcome = track.race([])
    assert outcome.winner is track.reference
    assert track.reference.measurement.measured_rounds
    assert outcome.control is not None


def test_a_reference_that_cannot_run_ends_the_race(track: Track) -> None:
    broken = track.contestant((), fail="crash")
    with pytest.raises(RuntimeFailureError, match="SIGSEGV"):
        track.race(track.field(2.0), reference=broken)


def test_a_race_without_time_says_so(track: Track) -> None:
    with pytest.raises(OptionError, match="--time"):
        track.race(track.field(2.0), time_s=0.001)


def test_other_calibrators_get_their_turn_when_the_first_loses_a_little(track: Track) -> None:
    lossy = track.contestant((StaticInt8("u8", "w8", "minmax"),), cost_ns=COST_NS // 4, loses=1)
    better = track.contestant((StaticInt8("u8", "w8", "mse"),), cost_ns=COST_NS // 4)
    field = [lossy]

    def alternates(dropped: Contestant) -> list[Contestant]:
        assert dropped is lossy
        field.append(better)
        return [better]

    outcome = track.race(field, budget=Budget(max_drop=0.095), alternates=alternates)
    assert outcome.winner is better


def test_a_mixture_enters_where_int8_loses_too_much(track: Track) -> None:
    lossy = track.contestant((StaticInt8(),), cost_ns=COST_NS // 8, loses=2)
    mixture = track.contestant((StaticInt8(float_blocks=("stem",)),), cost_ns=COST_NS // 4)
    point = PrecisionPoint(
        runtime="null",
        float_blocks=("stem",),
        blocks=2,
        drop=0.0,
        latency_ms=1.0,
        speedup=Interval(0.5, 0.5, 0.5),
    )

    class Stub:
        """Finds what it is given."""

        def plan(self, contestants: list[Contestant], leader: Contestant | None) -> Contestant:
            assert leader is None
            assert lossy.status == "over_budget"
            return lossy

        def search(self, plan: Contestant, until: Deadline) -> object:
            return SimpleNamespace(notes=("found",), points=(point,), contestant=lambda: mixture)

    field = [lossy]
    outcome = track.race(field, budget=Budget(max_drop=0.15), mixing=Stub())
    assert outcome.winner is mixture
    assert field == [lossy, mixture]
    assert outcome.frontier == (point,)
    assert "found" in outcome.notes


def test_a_plan_far_behind_is_not_tried_with_other_threads(track: Track) -> None:
    field = [
        track.contestant(CHAINS[0], cost_ns=COST_NS // 4),
        track.contestant(CHAINS[1], cost_ns=COST_NS, threads=1),
        track.contestant(CHAINS[1], cost_ns=COST_NS * 2, threads=2),
    ]
    track.race(field)
    assert field[2].status == "lost"
    assert field[2].reason.startswith("not raced: with 1t it is")


def test_one_that_misses_the_size_goal_gives_way_to_one_that_meets_it(track: Track) -> None:
    large = track.contestant(CHAINS[0], cost_ns=COST_NS // 4, padding="x" * 5000)
    small = track.contestant(CHAINS[1], cost_ns=COST_NS // 2)
    outcome = track.race([large, small], budget=Budget(size_bytes=2000))
    assert outcome.winner is small
    assert large.status == "over_budget"
    assert "is asked for" in large.reason
