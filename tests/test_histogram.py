"""The streaming histogram: nothing is lost, and the order of the values does not matter."""

from __future__ import annotations

from random import Random

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hasten.compress.activations.histogram import Histogram
from hasten.errors import DataError, OptionError

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
batches = st.lists(arrays.arrays(np.float32, st.integers(0, 20), elements=floats), max_size=6)


def histogram_of(*parts: np.ndarray, bins: int = 16) -> Histogram:
    histogram = Histogram(bins)
    for part in parts:
        histogram.add(part)
    return histogram


@given(batches)
def test_every_value_is_counted_once(parts: list[np.ndarray]) -> None:
    histogram = histogram_of(*parts)
    assert histogram.total == histogram.counts.sum() == sum(part.size for part in parts)


@given(batches, st.randoms())
def test_the_order_of_adds_changes_nothing(parts: list[np.ndarray], random: Random) -> None:
    shuffled = random.sample(parts, len(parts))
    first, second = histogram_of(*parts), histogram_of(*shuffled)
    assert first.width == second.width
    np.testing.assert_array_equal(first.counts, second.counts)


@given(batches)
def test_adds_in_parts_equal_one_add_of_all(parts: list[np.ndarray]) -> None:
    whole = histogram_of(np.concatenate([np.empty(0, np.float32), *parts]))
    streamed = histogram_of(*parts)
    assert whole.width == streamed.width
    np.testing.assert_array_equal(whole.counts, streamed.counts)


@given(arrays.arrays(np.float32, st.integers(1, 50), elements=floats))
def test_each_value_is_in_the_bin_that_holds_it(values: np.ndarray) -> None:
    histogram = histogram_of(values)
    bins = np.floor(values.astype(np.float64) / histogram.width).astype(int) + histogram.bins
    np.testing.assert_array_equal(histogram.counts, np.bincount(bins, minlength=32))


@given(arrays.arrays(np.float32, st.integers(1, 50), elements=floats))
def test_minimum_maximum_and_zeros_are_exact(values: np.ndarray) -> None:
    histogram = histogram_of(values)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert histogram.zeros == np.count_nonzero(values == 0)


@given(st.floats(2.0**-100, 2.0**100, width=32), st.booleans())
def test_the_longer_side_uses_at_least_half_of_its_bins(magnitude: float, negative: bool) -> None:
    extreme = -magnitude if negative else magnitude
    histogram = histogram_of(np.array([0.0, extreme], np.float32))
    used = np.flatnonzero(histogram.counts) - histogram.bins
    assert max(used.max() + 1, -used.min()) >= histogram.bins / 2


def test_zeros_first_do_not_fix_the_width() -> None:
    zeros, small = np.zeros(9, np.float32), np.array([1e-6], np.float32)
    assert histogram_of(zeros, small).width == histogram_of(small).width


def test_more_values_than_one_chunk_are_all_counted() -> None:
    values = np.random.default_rng(0).standard_normal(200_001, np.float32)
    histogram = histogram_of(values, bins=2048)
    edges = (np.arange(4097) - 2048) * histogram.width
    np.testing.assert_array_equal(histogram.counts, np.histogram(values, edges)[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_float_dtypes_are_counted_alike(dtype: type) -> None:
    values = np.array([[-1.5, 0.0], [0.25, 3.0]])
    np.testing.assert_array_equal(
        histogram_of(values.astype(dtype)).counts, histogram_of(values.astype(np.float32)).counts
    )


def test_an_array_that_is_not_contiguous_is_counted() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(histogram_of(values.T).counts, histogram_of(values).counts)


def test_an_empty_histogram_spans_nothing() -> None:
    histogram = histogram_of(np.empty((0, 3), np.float32))
    assert (histogram.total, histogram.low, histogram.high) == (0, 0.0, 0.0)


def test_a_value_that_is_no_number_is_refused_with_the_tensors_name() -> None:
    histogram = Histogram(name="conv1_out")
    with pytest.raises(DataError, match=r"numbers, got 1 of 3 that are NaN - at conv1_out"):
        histogram.add(np.array([1.0, np.nan, np.inf], np.float32))
    assert (histogram.total, histogram.infinite) == (0, 0)


def test_infinities_are_counted_apart_from_the_values() -> None:
    histogram = histogram_of(np.array([1.0, np.inf, -np.inf, -2.0], np.float32))
    assert (histogram.total, histogram.infinite) == (2, 2)
    assert (histogram.low, histogram.high) == (-2.0, 1.0)
    histogram.add(np.array([np.inf], np.float32))
    assert (histogram.total, histogram.infinite, histogram.high) == (2, 3, 1.0)


@pytest.mark.parametrize("bins", [0, -4, 100])
def test_bins_that_are_no_power_of_two_are_refused(bins: int) -> None:
    with pytest.raises(OptionError, match="power of two"):
        Histogram(bins)
