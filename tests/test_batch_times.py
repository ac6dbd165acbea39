"""The online model of how long a batch takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.serve.engine.batch_times import BatchTimes
from scheduling import times_of


def test_nothing_is_known_before_anything_was_seen() -> None:
    times = BatchTimes()
    assert not times.known
    assert times.expect(4) == 0.0


def test_one_size_alone_grows_with_the_rows_and_never_shrinks() -> None:
    times = BatchTimes()
    times.observe(4, 100.0)
    assert (times.expect(1), times.expect(4), times.expect(8)) == (100.0, 100.0, 200.0)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 64))
def test_sizes_between_and_beyond_are_on_the_line(fixed: float, row: float, size: int) -> None:
    times = times_of(fixed, row, (4, 16))
    assert times.expect(size) == pytest.approx(fixed + size * row, rel=1e-6, abs=1e-3)


def test_a_larger_batch_is_never_expected_to_be_quicker() -> None:
    times = BatchTimes()
    times.observe(2, 100.0)
    times.observe(8, 50.0)
    assert times.expect(4) == 100.0
    assert times.expect(16) >= times.expect(8)


def test_the_mean_follows_what_is_seen() -> None:
    times = BatchTimes()
    for _ in range(200):
        times.observe(1, 100.0)
    for _ in range(200):
        times.observe(1, 300.0)
    assert times.expect(1) == pytest.approx(300.0, rel=0.01)


def test_one_slow_batch_moves_the_mean_by_a_sixteenth() -> None:
    times = BatchTimes()
    times.observe(1, 100.0)
    times.observe(1, 1700.0)
    assert times.expect(1) == 200.0


def test_the_tail_is_how_far_the_slowest_of_a_hundred_is_above() -> None:
    times = BatchTimes()
    random = np.random.default_rng(0)
    for slow in random.random(4000) < 0.03:
        times.observe(1, 300.0 if slow else 100.0)
    assert 2.0 < times.tail_factor < 3.2


def test_the_tail_is_forgotten() -> None:
    times = BatchTimes()
    for at in range(64):
        times.observe(1, 500.0 if at % 8 == 0 else 100.0)
    assert times.tail_factor > 2
    for _ in range(512):
        times.observe(1, 100.0)
    assert times.tail_factor == pytest.approx(1.0, abs=0.01)


SIZES = (1, 2, 4, 8)


def test_the_worthwhile_size_is_the_smallest_that_none_beats_by_the_row() -> None:
    assert times_of(100.0, 0.0, SIZES).worthwhile(SIZES) == 8
    assert times_of(0.0, 100.0, SIZES).worthwhile(SIZES) == 1
    assert times_of(1.0, 100.0, SIZES).worthwhile(SIZES) == 1


def test_the_largest_within_a_limit_counts_the_tail() -> None:
    times = times_of(100.0, 100.0, SIZES)
    assert times.largest_within(SIZES, 500.0) == 4
    assert times.largest_within(SIZES, 1.0) == 1
    times.tail_factor = 2.0
    assert times.largest_within(SIZES, 600.0) == 2
