"""The search for the limit, against servers whose limit is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.load_generator.limit import Phase, Trial, search
from hasten.load_generator.record import Record


def trying(holds: Callable[[Phase, float, int], bool]) -> Callable[[Phase, float, int], Trial]:
    return lambda phase, rate, seed: Trial(
        phase, rate, seed, holds(phase, rate, seed), 1.0, 0, gave_up=False
    )


@given(st.floats(1, 1e5), st.floats(1, 1e5))
def test_the_limit_is_found_within_two_percent(limit: float, first: float) -> None:
    found, trials = search(trying(lambda phase, rate, seed: rate <= limit), first, 0)

    assert found is not None
    assert limit / 1.0201 <= found <= limit
    assert [trial.phase for trial in trials[-3:]] == ["confirm"] * 3
    assert {trial.rate_per_s for trial in trials[-3:]} == {found}


def test_every_trial_has_a_seed_of_its_own() -> None:
    _, trials = search(trying(lambda phase, rate, seed: rate <= 70), 10, 5)

    assert [trial.seed for trial in trials] == list(range(5, 5 + len(trials)))


def test_a_limit_that_a_confirmation_does_not_hold_goes_down() -> None:
    def holds(phase: Phase, rate: float, seed: int) -> bool:
        return rate <= (90 if phase == "confirm" else 100)

    found, trials = search(trying(holds), 10, 0)

    assert found is not None
    assert 80 < found <= 90
    assert sum(trial.phase == "confirm" and not trial.holds for trial in trials) >= 1


def test_three_confirmations_in_a_row_are_asked_for() -> None:
    last_fails = iter([True, True, False, True, True, True])

    def holds(phase: Phase, rate: float, seed: int) -> bool:
        return next(last_fails) if phase == "confirm" else rate <= 100

    found, trials = search(trying(holds), 10, 0)

    assert found is not None
    assert found < 99
    assert sum(trial.phase == "confirm" for trial in trials) == 6


def test_a_goal_that_no_rate_holds_ends_the_search() -> None:
    found, trials = search(trying(lambda phase, rate, seed: False), 1000, 0)

    assert found is None
    assert len(trials) < 20


def test_a_search_that_no_confirmation_ends_ends() -> None:
    found, trials = search(trying(lambda phase, rate, seed: phase != "confirm" and rate < 9), 1, 0)

    assert found is None
    assert len(trials) < 100


def lagging(lag_ns: int, latency_ns: int) -> Record:
    record = Record.empty()
    record.paced, record.issued = True, 100
    for _ in range(100):
        record.lag.record(lag_ns)
        record.latency.record(latency_ns)
    return record


@pytest.mark.parametrize(
    ("lag_ns", "latency_ns", "goal_ns", "void"),
    [
        (100_000, 200_000, 0, False),
        (400_000, 500_000, 0, True),
        (400_000, 5_000_000, 0, False),
        (400_000, 500_000, 5_000_000, False),
        (4_000_000, 5_000_000, 5_000_000, True),
    ],
)
def test_a_run_whose_generator_lagged_is_void_and_says_so(
    lag_ns: int, latency_ns: int, goal_ns: int, void: bool
) -> None:
    assert lagging(lag_ns, latency_ns).void(goal_ns).startswith("the generator lagged") == void


def test_a_run_that_sent_nothing_is_void() -> None:
    assert Record.empty().void() == "no request was sent"
