"""Batching while busy, simulated, against what theory proves of it."""

from __future__ import annotations

import pytest

from simulation import Load, mean_latency

ARRIVALS = 20_000
#: Sampling moves the mean of so many arrivals by a few percent.
TOLERANCE = 1.03


@pytest.mark.parametrize("utilization", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("fixed", [0.5, 2.0, 10.0, 40.0])
def test_the_mean_latency_is_not_above_the_published_bound(
    fixed: float, utilization: float
) -> None:
    load = Load(fixed * 100_000, 100_000, utilization)
    assert mean_latency(load, ARRIVALS, seed=1).mean_ns <= TOLERANCE * load.bound_ns


def test_without_a_fixed_cost_it_is_not_slower_than_one_by_one() -> None:
    load = Load(0.0, 100_000, 0.5)
    one_by_one = load.row_ns * (1 + load.utilization / (2 * (1 - load.utilization)))
    assert mean_latency(load, ARRIVALS, seed=2).mean_ns <= TOLERANCE * one_by_one


def test_a_light_load_waits_for_little_but_its_own_batch() -> None:
    load = Load(1_000_000, 100_000, 0.001)
    mean = mean_latency(load, ARRIVALS, seed=3).mean_ns
    assert mean == pytest.approx(1_100_000, rel=0.02)
