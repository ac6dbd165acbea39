"""Calibrators: from a histogram to a range, and what 8 bits lose inside it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hasten.compress.activations.histogram import Histogram
from hasten.compress.quantization.calibration import (
    CALIBRATORS,
    Range,
    entropy,
    minmax,
    mse,
    percentile,
    quantize_dequantize,
    sqnr_db,
)
from hasten.errors import OptionError

every_calibrator = pytest.mark.parametrize("name", CALIBRATORS)
moderate = st.floats(-1000, 1000, width=32)
tensors = arrays.arrays(np.float32, st.integers(1, 200), elements=moderate)


def seen(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


def gaussian(count: int = 100_000, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count, np.float32)


def with_outliers(values: np.ndarray, *outliers: float) -> np.ndarray:
    planted = values.copy()
    planted[: len(outliers)] = outliers
    return planted


@every_calibrator
@given(values=tensors)
def test_a_range_holds_zero_and_nothing_that_was_not_seen(name: str, values: np.ndarray) -> None:
    found = CALIBRATORS[name](seen(values))
    assert min(values.min(), 0) <= found.low <= 0 <= found.high <= max(values.max(), 0)


@every_calibrator
@pytest.mark.parametrize("values", [[], [0.0], [0.0] * 1000], ids=["empty", "one", "many"])
def test_a_tensor_without_any_value_but_zero_has_no_range(name: str, values: list[float]) -> None:
    assert CALIBRATORS[name](seen(np.array(values, np.float32))) == Range(0.0, 0.0)


@every_calibrator
@pytest.mark.parametrize("value", [3.7, -0.01, 1e-30, 2.0**120])
@pytest.mark.parametrize("count", [1, 1000])
def test_a_constant_is_kept_within_half_a_step(name: str, value: float, count: int) -> None:
    values = np.full(count, value, np.float32)
    found = CALIBRATORS[name](seen(values))
    kept = quantize_dequantize(values, found)
    np.testing.assert_allclose(kept, values, rtol=0.5 / 255)


@every_calibrator
def test_values_after_a_relu_have_a_range_above_zero(name: str) -> None:
    found = CALIBRATORS[name](seen(np.maximum(gaussian(), 0)))
    assert found.low == 0
    assert found.high > 3


@every_calibrator
def test_a_tensor_far_from_zero_is_not_cut_off(name: str) -> None:
    values = np.random.default_rng(0).uniform(0.5, 1.0, 100_000).astype(np.float32)
    assert CALIBRATORS[name](seen(values)).high > 0.99


@every_calibrator
def test_a_range_scales_with_the_tensor(name: str) -> None:
    values = gaussian()
    small, large = CALIBRATORS[name](seen(values)), CALIBRATORS[name](seen(values * 1024))
    assert (large.low, large.high) == (small.low * 1024, small.high * 1024)


def test_minmax_covers_what_was_seen_exactly() -> None:
    assert minmax(seen(np.array([-0.3, 7.1], np.float32))) == Range(
        float(np.float32(-0.3)), float(np.float32(7.1))
    )


@given(values=tensors, kept=st.floats(0.5, 1.0))
def test_a_percentile_keeps_at_least_its_share(values: np.ndarray, kept: float) -> None:
    found = percentile(seen(values), kept)
    inside = np.count_nonzero((values >= found.low) & (values <= found.high))
    assert inside >= kept * values.size * (1 - 1e-12)


def test_a_percentile_cuts_both_tails() -> None:
    found = percentile(seen(gaussian(1_000_000)), kept=0.99)
    assert found.low == pytest.approx(-2.576, abs=0.02)
    assert found.high == pytest.approx(2.576, abs=0.02)


@pytest.mark.parametrize("kept", [0.0, -1.0, 1.1])
def test_a_percentile_that_is_no_share_is_refused(kept: float) -> None:
    with pytest.raises(OptionError, match="at most 1"):
        percentile(seen(gaussian(10)), kept)


def test_mse_finds_the_best_clipping_of_a_brute_search() -> None:
    values = gaussian()
    found = sqnr_db(values, mse(seen(values)))
    tried = [sqnr_db(values, Range(-t, t)) for t in np.linspace(2, 5, 61)]
    assert found > max(tried) - 0.05


def test_mse_clips_each_end_where_it_pays() -> None:
    found = mse(seen(with_outliers(gaussian(1_000_000), 60.0)))
    assert found.high < 30
    assert -5 < found.low < -3


def test_mse_keeps_a_spike_at_the_end() -> None:
    values = np.clip(gaussian() * 4, 0, 6)
    assert mse(seen(values)) == Range(0.0, 6.0)


@pytest.mark.parametrize("calibrate", [mse, entropy])
def test_planted_outliers_cost_less_than_with_minmax(
    calibrate: Callable[[Histogram], Range],
) -> None:
    values = with_outliers(gaussian(1_000_000), 60.0, -60.0)
    histogram = seen(values)
    gain = sqnr_db(values, calibrate(histogram)) - sqnr_db(values, minmax(histogram))
    assert gain > 3


def test_entropy_clips_lone_outliers() -> None:
    found = entropy(seen(with_outliers(gaussian(), 60.0, -60.0)))
    assert -8 <= found.low < -3
    assert 3 < found.high <= 8


def test_entropy_is_not_misled_by_the_zeros_of_a_relu() -> None:
    dense = entropy(seen(np.abs(gaussian())))
    sparse = entropy(seen(np.concatenate([np.abs(gaussian()), np.zeros(1_000_000, np.float32)])))
    assert sparse == dense


def test_entropy_equals_a_search_written_out_bin_by_bin() -> None:
    histogram = Histogram(bins=512)
    histogram.add(np.random.default_rng(3).laplace(size=20_000))
    counts = histogram.counts
    folded = counts[:512][::-1] + counts[512:]
    folded = folded[: np.flatnonzero(folded)[-1] + 1].astype(float)
    divergences = [_divergence(folded, size) for size in range(128, folded.size + 1)]
    threshold = (128 + int(np.argmin(divergences))) * histogram.width
    assert entropy(histogram).high == min(threshold, histogram.high)


def _divergence(folded: np.ndarray, size: int) -> float:
    """KL divergence for the first ``size`` bins, as the talk describes it."""
    reference = folded[:size].copy()
    reference[-1] += folded[size:].sum()
    level = np.arange(size) * 128 // size
    candidate = np.zeros(size)
    for one in range(128):
        members = (level == one) & (reference > 0)
        if members.any():
            mass = max(folded[:size][level == one].sum(), 1e-4)
            candidate[members] = mass / members.sum()
    used = reference > 0
    return float(np.sum(reference[used] * np.log(reference[used] / candidate[used])))


@given(values=tensors, ends=st.tuples(moderate, moderate))
def test_a_value_inside_the_range_moves_by_at_most_half_a_step(
    values: np.ndarray, ends: tuple[float, float]
) -> None:
    clip = Range.spanning(min(ends), max(ends))
    inside = values[(values >= clip.low) & (values <= clip.high)]
    step = (clip.high - clip.low) / 255
    assume(step >= np.finfo(np.float32).tiny)  # a narrower range represents zero alone
    moved = np.abs(quantize_dequantize(inside, clip) - inside)
    assert np.all(moved <= step * 0.5001)


@given(values=tensors)
def test_quantizing_twice_is_quantizing_once(values: np.ndarray) -> None:
    clip = minmax(seen(values))
    once = quantize_dequantize(values, clip)
    np.testing.assert_array_equal(quantize_dequantize(once, clip), once)


@given(ends=st.tuples(moderate, moderate))
def test_zero_is_represented_exactly(ends: tuple[float, float]) -> None:
    clip = Range.spanning(*ends)
    assert quantize_dequantize(np.zeros(1), clip).item() == 0


def test_eight_bits_have_256_levels() -> None:
    values = np.linspace(-5, 5, 10_000)
    assert len(np.unique(quantize_dequantize(values, Range(-4.0, 3.0)))) == 256


def test_sqnr_is_infinite_where_nothing_is_lost() -> None:
    assert sqnr_db(np.zeros(3), Range(0.0, 0.0)) == math.inf


def test_sqnr_of_a_uniform_tensor_is_six_decibels_a_bit() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 1_000_000)
    # Power 1/3 over noise (1/255)^2 / 12.
    assert sqnr_db(values, Range(0.0, 1.0)) == pytest.approx(10 * math.log10(4 * 255**2), abs=0.01)
