from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.measure.statistics import Interval, latency, speedup, verdict

TIMES = st.floats(min_value=1e3, max_value=1e10)
BLOCKS = st.lists(st.lists(TIMES, min_size=1, max_size=6), min_size=1, max_size=4)
PAIRED = BLOCKS.flatmap(
    lambda blocks: st.tuples(
        st.just(blocks),
        st.tuples(*(st.lists(TIMES, min_size=len(b), max_size=len(b)) for b in blocks)),
    )
)
FEW = settings(max_examples=40, deadline=None)


@FEW
@given(BLOCKS)
def test_something_is_exactly_as_fast_as_itself(blocks: list[list[float]]) -> None:
    assert speedup(blocks, blocks) == Interval(1.0, 1.0, 1.0)


@FEW
@given(PAIRED, st.floats(min_value=0.01, max_value=100))
def test_scaling_one_side_scales_the_interval(
    pair: tuple[list[list[float]], list[list[float]]], factor: float
) -> None:
    reference, other = pair
    plain = speedup(reference, other)
    scaled = speedup([[factor * ns for ns in block] for block in reference], other)
    expected = [factor * end for end in (plain.median, plain.low, plain.high)]
    assert [scaled.median, scaled.low, scaled.high] == pytest.approx(expected, rel=1e-6)


@FEW
@given(PAIRED)
def test_the_interval_holds_the_median(
    pair: tuple[list[list[float]], list[list[float]]],
) -> None:
    found = speedup(*pair)
    assert 0 < found.low <= found.median <= found.high


@FEW
@given(PAIRED)
def test_the_bootstrap_gives_the_same_interval_every_time(
    pair: tuple[list[list[float]], list[list[float]]],
) -> None:
    assert speedup(*pair) == speedup(*pair)


@FEW
@given(PAIRED, st.lists(TIMES, max_size=3))
def test_rounds_that_only_one_side_has_do_not_count(
    pair: tuple[list[list[float]], list[list[float]]], extra: list[float]
) -> None:
    reference, other = pair
    longer = [[*reference[0], *extra], *reference[1:]]
    assert speedup(longer, other) == speedup(reference, other)


def test_a_block_that_one_side_lacks_does_not_count() -> None:
    assert speedup([[2.0, 2.0], [9.0]], [[1.0, 1.0]]) == speedup([[2.0, 2.0]], [[1.0, 1.0]])
    assert speedup([[2.0], [9.0]], [[1.0], []]) == Interval(2.0, 2.0, 2.0)


def test_without_a_common_round_there_is_no_speedup() -> None:
    with pytest.raises(ValueError, match="no round in common"):
        speedup([[1.0], []], [[], [1.0]])


def simulated(random: np.random.Generator, blocks: int, rounds: int) -> list[list[float]]:
    """Times of one program whose processes differ as much as their rounds do."""
    return [
        list(1e6 * np.exp(random.normal(0, 0.02) + random.normal(0, 0.02, rounds)))
        for _ in range(blocks)
    ]


@pytest.mark.parametrize(("blocks", "rounds"), [(3, 8), (6, 4), (10, 3)])
def test_the_interval_of_two_alike_covers_one(blocks: int, rounds: int) -> None:
    random = np.random.default_rng(7)
    intervals = [
        speedup(simulated(random, blocks, rounds), simulated(random, blocks, rounds))
        for _ in range(200)
    ]
    assert sum(found.low <= 1 <= found.high for found in intervals) >= 0.9 * len(intervals)


def test_more_blocks_of_as_many_rounds_in_all_give_a_narrower_interval() -> None:
    random = np.random.default_rng(7)

    def width(blocks: int, rounds: int) -> float:
        found = [
            speedup(simulated(random, blocks, rounds), simulated(random, blocks, rounds))
            for _ in range(50)
        ]
        return float(np.median([one.high - one.low for one in found]))

    assert width(6, 4) < 0.7 * width(3, 8)


def test_a_real_difference_is_found_in_spite_of_the_noise() -> None:
    random = np.random.default_rng(7)
    slow = [[1.3 * ns for ns in block] for block in simulated(random, 6, 4)]
    found = speedup(slow, simulated(random, 6, 4))
    assert found.low < 1.3 < found.high
    assert verdict(found) == "faster"


def test_latency_is_percentiles_in_milliseconds() -> None:
    found = latency([n * 1e6 for n in range(101)])
    assert (found.p50, found.p90, found.p99) == (50.0, 90.0, 99.0)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.01, 1.2, "faster"),
        (0.8, 0.99, "slower"),
        (0.9, 1.1, "no measurable difference"),
        (1.0, 1.1, "no measurable difference"),
        (0.9, 1.0, "no measurable difference"),
    ],
)
def test_a_difference_is_said_only_where_the_interval_excludes_one(
    low: float, high: float, said: str
) -> None:
    assert verdict(Interval((low + high) / 2, low, high)) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.06, 1.2, "faster"),
        (1.04, 1.2, "no measurable difference"),
        (0.8, 0.94, "slower"),
        (0.8, 0.96, "no measurable difference"),
    ],
)
def test_a_difference_has_to_lie_beyond_that_of_the_control(
    low: float, high: float, said: str
) -> None:
    control = Interval(1.0, 0.95, 1.05)
    assert verdict(Interval((low + high) / 2, low, high), control) == said


def test_a_control_that_leans_one_way_does_not_help_the_other() -> None:
    assert verdict(Interval(1.0, 0.98, 1.02), Interval(0.9, 0.88, 0.92)) == (
        "no measurable difference"
    )


def test_an_interval_is_written_as_a_ratio() -> None:
    assert str(Interval(1.234, 1.1, 1.3)) == "1.23x [1.10, 1.30]"
