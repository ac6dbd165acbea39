"""The histogram keeps three digits of every time, whatever was recorded."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hasten.load_generator.histogram import Histogram

TIMES = st.lists(st.integers(0, 3_600_000_000_000), min_size=1, max_size=200)
PERCENTS = st.floats(0.1, 100)


def histogram_of(times: list[int]) -> Histogram:
    histogram = Histogram()
    for time_ns in times:
        histogram.record(time_ns)
    return histogram


def exact(times: list[int], percent: float) -> int:
    return sorted(times)[max(1, math.ceil(len(times) * percent / 100)) - 1]


@given(TIMES, PERCENTS)
def test_a_percentile_is_within_a_thousandth_of_the_exact_one(
    times: list[int], percent: float
) -> None:
    want, found = exact(times, percent), histogram_of(times).percentile(percent)

    assert found is not None
    assert want <= found <= want * 1.001 + 1


@given(TIMES, TIMES)
def test_merging_is_as_recording_all_in_one(one: list[int], other: list[int]) -> None:
    assert histogram_of(one).merged(histogram_of(other)) == histogram_of(one + other)


@given(TIMES, PERCENTS, st.integers(1, 300))
def test_what_never_ended_is_longer_than_all(times: list[int], percent: float, more: int) -> None:
    histogram = histogram_of(times)
    found = histogram.percentile(percent, beyond=more)

    if math.ceil((len(times) + more) * percent / 100) > len(times):
        assert found is None
    else:
        assert found is not None
        assert found <= max(times)


@given(TIMES, st.integers(0, 3_600_000_000_000))
def test_times_within_a_limit_are_counted_to_a_thousandth(times: list[int], limit: int) -> None:
    found = histogram_of(times).within(limit)

    assert sum(one <= limit for one in times) <= found
    assert found <= sum(one <= limit * 1.001 + 1 for one in times)


def test_a_time_before_its_start_counts_as_nought_and_a_day_as_the_longest() -> None:
    histogram = histogram_of([-5, 86_400_000_000_000])

    assert (histogram.percentile(50), histogram.percentile(100)) == (0, 86_400_000_000_000)


def test_memory_does_not_grow_with_what_is_recorded() -> None:
    histogram = Histogram()
    before = len(histogram.counts)
    for at in range(100_000):
        histogram.record(at * 1009)

    assert len(histogram.counts) == before
