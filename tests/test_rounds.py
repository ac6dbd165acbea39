from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from hasten.errors import RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.rounds import Entrant, Measurement, run_rounds
from hasten.measure.statistics import Interval
from hasten.worker.process import Worker
from workers import LIMIT_S, open_null

pytestmark = pytest.mark.quiet

NEVER = Deadline.after(None)


def seeded() -> random.Random:
    return random.Random(0)  # noqa: S311 - an order of rounds


class Clock:
    """A clock that stands still until it is told to run on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> int:
        return int(self.now_s * 1e9)


class Logged(random.Random):
    """Notes the orders that it makes."""

    def __init__(self, seed: int, entrants: list[Entrant]) -> None:
        super().__init__(seed)
        self.entrants = entrants
        self.orders: list[list[int]] = []

    def shuffle(self, x: list[Entrant]) -> None:  # type: ignore[override]
        super().shuffle(x)
        self.orders.append([self.entrants.index(entrant) for entrant in x])


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(stack, tmp_path_factory.mktemp("rounds"))


@pytest.fixture
def enter(opened: Opened) -> Iterator[Lanes]:
    lanes = Lanes(opened)
    yield lanes
    opened.idle += lanes.lent


class Opened:
    """Workers with null candidates, which go from test to test while they live."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.idle: list[tuple[int, Worker]] = []

    def take(self, cost_ns: int) -> Worker:
        for at, (other, worker) in enumerate(self.idle):
            if other == cost_ns:
                del self.idle[at]
                with suppress(RuntimeFailureError):  # the last test may have ended it
                    worker.measure(1, 0, LIMIT_S)
                    return worker
                return self.take(cost_ns)
        worker = self.stack.enter_context(Worker(self.folder))
        open_null(worker, self.folder, cost_ns=cost_ns)
        return worker


class Lanes:
    """Makes the entrants of one test."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.lent: list[tuple[int, Worker]] = []

    def __call__(self, cost_ns: int = 0) -> Entrant:
        worker = self.opened.take(cost_ns)
        self.lent.append((cost_ns, worker))
        return Entrant(worker)

    def sized(self, cost_ns: int = 0) -> Entrant:
        """One whose turn is a single run, which nobody expects to take long."""
        entrant = self(cost_ns)
        entrant.runs, entrant.expected_s = 1, 0.001
        return entrant


def test_every_entrant_has_a_turn_in_every_round(enter: Lanes) -> None:
    entrants = [enter(cost_ns=1_000_000) for _ in range(3)]
    assert run_rounds(entrants, 4, seeded(), NEVER) == 4
    for entrant in entrants:
        assert [len(block) for block in entrant.measurement.runs_ns] == [4]
        assert [len(block) for block in entrant.measurement.item_ns] == [4]
        assert {len(runs) for runs in entrant.measurement.runs_ns[0]} == {entrant.runs}


def test_the_order_is_random_in_each_round_and_the_same_for_one_seed(enter: Lanes) -> None:
    entrants = [enter() for _ in range(3)]
    logs = [Logged(seed, entrants) for seed in (1, 1, 2)]
    for log in logs:
        run_rounds(entrants, 6, log, NEVER)
    assert logs[0].orders == logs[1].orders != logs[2].orders
    assert len({tuple(order) for order in logs[0].orders}) > 1
    assert all(sorted(order) == [0, 1, 2] for order in logs[0].orders)


def test_each_call_is_a_block_of_its_own(enter: Lanes) -> None:
    entrants = [enter(), enter()]
    for rounds in (2, 3):
        run_rounds(entrants, rounds, seeded(), NEVER)
    assert [len(block) for block in entrants[1].measurement.runs_ns] == [2, 3]
    assert entrants[1].measurement.measured_rounds == 5


def test_rounds_are_paired_and_show_which_costs_more(enter: Lanes) -> None:
    entrants = [enter(cost_ns=8_000_000), enter(cost_ns=2_000_000)]
    run_rounds(entrants, 5, seeded(), NEVER)
    reference, other = (entrant.measurement for entrant in entrants)
    for target in ("latency", "throughput"):
        assert 2 < other.speedup_over(reference, target).median < 8
        assert 1 / 8 < reference.speedup_over(other, target).median < 1 / 2


def test_a_turn_is_many_runs_of_what_is_fast_and_two_of_what_is_slow(enter: Lanes) -> None:
    fast, slow = enter(), enter(cost_ns=100_000_000)
    for entrant in (fast, slow):
        entrant.size_turn(NEVER)
    assert fast.runs > 50
    assert slow.runs == 2
    assert 0.3 <= slow.expected_s < 1.0


def test_runs_that_do_not_count_are_counted_as_warm_up(enter: Lanes) -> None:
    entrant = enter(cost_ns=2_000_000)
    run_rounds([entrant], 3, seeded(), NEVER)
    assert entrant.measurement.warmup_runs == 2 + 3 * entrant.settle


def test_progress_is_told_of_every_round(enter: Lanes) -> None:
    told: list[int] = []
    run_rounds([enter()], 3, seeded(), NEVER, lambda: told.append(1))
    assert len(told) == 3


def test_one_that_fails_keeps_its_reason_and_the_others_go_on(enter: Lanes) -> None:
    entrants = [enter(), enter(), enter()]
    entrants[1].worker.close()
    assert run_rounds(entrants, 3, seeded(), NEVER) == 3
    assert [bool(entrant.failure) for entrant in entrants] == [False, True, False]
    assert [entrant.measurement.measured_rounds for entrant in entrants] == [3, 0, 3]


def test_one_that_fails_in_the_middle_keeps_the_rounds_it_had(enter: Lanes) -> None:
    entrants = [enter(), enter()]
    done: list[int] = []

    def end_it_after_two() -> None:
        done.append(1)
        if len(done) == 2:
            entrants[1].worker.close()

    assert run_rounds(entrants, 4, seeded(), NEVER, end_it_after_two) == 4
    assert [entrant.measurement.measured_rounds for entrant in entrants] == [4, 2]
    assert "gone" in entrants[1].failure


def test_one_that_had_failed_before_is_not_asked(enter: Lanes) -> None:
    entrants = [enter(), enter()]
    entrants[1].failure = "could not compile"
    run_rounds(entrants, 2, seeded(), NEVER)
    assert entrants[1].failure == "could not compile"
    assert entrants[1].measurement.measured_rounds == 0


def test_the_failure_of_the_reference_is_raised(enter: Lanes) -> None:
    entrants = [enter(), enter()]
    entrants[0].worker.close()
    with pytest.raises(RuntimeFailureError, match="gone"):
        run_rounds(entrants, 2, seeded(), NEVER)


def test_no_round_begins_after_the_deadline(enter: Lanes) -> None:
    clock = Clock()
    entrants = [enter(), enter()]

    def an_hour() -> None:
        clock.now_s += 3600

    assert run_rounds(entrants, 9, seeded(), Deadline.after(7000, clock), an_hour) == 2
    assert [entrant.measurement.measured_rounds for entrant in entrants] == [2, 2]


def test_no_round_begins_that_is_expected_to_pass_the_deadline(enter: Lanes) -> None:
    entrants = [enter.sized(), enter.sized()]
    entrants[1].expected_s = 10.0
    deadline = Deadline.after(9.0, Clock())
    assert run_rounds(entrants, 3, seeded(), deadline) == 0


def test_nothing_is_measured_once_the_deadline_has_passed(enter: Lanes) -> None:
    entrants = [enter(), enter()]
    assert run_rounds(entrants, 3, seeded(), Deadline.after(0.0, Clock())) == 0
    assert [entrant.failure for entrant in entrants] == ["", ""]
    assert [entrant.measurement.warmup_runs for entrant in entrants] == [0, 0]


def test_the_time_limit_holds_with_one_that_is_slow(enter: Lanes) -> None:
    entrants = [enter(cost_ns=10_000_000), enter(cost_ns=150_000_000)]
    begin = time.monotonic()
    done = run_rounds(entrants, 1000, seeded(), Deadline.after(2.0))
    assert time.monotonic() - begin < 4.0
    assert 1 <= done < 10
    assert [entrant.measurement.measured_rounds for entrant in entrants] == [done, done]


@pytest.mark.parametrize("slow", [0, 1])
def test_one_that_the_deadline_cuts_short_did_not_hang(enter: Lanes, slow: int) -> None:
    """Neither the reference nor another; the round counts for nobody."""
    entrants = [enter.sized(), enter.sized()]
    entrants[slow] = enter.sized(cost_ns=1_000_000_000)
    begin = time.monotonic()
    assert run_rounds(entrants, 3, seeded(), Deadline.after(0.2)) == 0
    assert time.monotonic() - begin < 1.4
    assert [entrant.failure for entrant in entrants] == ["", ""]
    assert [entrant.measurement.runs_ns for entrant in entrants] == [[[]], [[]]]


@pytest.mark.parametrize("slow", [0, 1])
def test_one_that_the_deadline_cuts_short_in_its_first_turn_did_not_hang(
    enter: Lanes, slow: int
) -> None:
    entrants = [enter(), enter()]
    entrants[slow] = enter(cost_ns=500_000_000)
    assert run_rounds(entrants, 3, seeded(), Deadline.after(0.2)) == 0
    assert [entrant.failure for entrant in entrants] == ["", ""]


def test_rounds_before_the_one_cut_short_are_kept(enter: Lanes) -> None:
    entrants = [enter.sized(), enter.sized()]
    slow = enter.sized(cost_ns=1_000_000_000)

    def slow_down() -> None:
        entrants[1].worker = slow.worker

    assert run_rounds(entrants, 3, seeded(), Deadline.after(0.3), slow_down) == 1
    assert [entrant.measurement.measured_rounds for entrant in entrants] == [1, 1]


def test_what_was_cut_short_still_tells_its_peak_memory(enter: Lanes) -> None:
    entrant = enter.sized(cost_ns=1_000_000_000)
    assert run_rounds([entrant], 1, seeded(), Deadline.after(0.1)) == 0
    assert entrant.worker.peak_memory_bytes() > 0


def test_a_crash_just_before_the_deadline_is_still_a_failure(enter: Lanes) -> None:
    entrants = [enter.sized(), enter.sized()]
    entrants[1].worker.close()
    assert run_rounds(entrants, 1, seeded(), Deadline.after(5.0)) == 1
    assert entrants[1].failure


def test_latency_takes_the_median_run_of_a_round_and_throughput_its_time_per_item() -> None:
    found = Measurement(runs_ns=[[[1, 2, 9], [4, 4, 4]]], item_ns=[[0.5, 0.25]])
    assert found.rounds("latency") == [[2, 4]]
    assert found.rounds("throughput") == [[0.5, 0.25]]


def test_the_speedup_is_taken_over_the_rounds_in_common() -> None:
    reference = Measurement(runs_ns=[[[4], [8], [99]]])
    assert Measurement(runs_ns=[[[2], [4]]]).speedup_over(reference, "latency") == Interval(2, 2, 2)
