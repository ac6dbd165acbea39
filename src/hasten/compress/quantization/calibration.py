"""From what a tensor's values look like to the range that 8 bits should cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from hasten.compress.activations.histogram import Histogram
from hasten.errors import OptionError

__all__ = [
    "CALIBRATORS",
    "Range",
    "minmax",
    "percentile",
    "mse",
    "entropy",
    "quantize_dequantize",
    "sqnr_db",
]

_Floats = npt.NDArray[np.float64]

#: Thresholds that the first, coarse pass of ``mse`` tries on each side.
_COARSE = 256
#: Levels that ``entropy`` quantizes |x| to: int8 without its sign.
_ENTROPY_LEVELS = 128
#: Divergences closer than this are equal but for rounding.
_DIVERGENCE_TOLERANCE = 1e-9
#: What a level without a count is taken to hold: clipping a lone outlier costs little, not nothing.
_UNSEEN = 1e-4


class Range(msgspec.Struct, frozen=True):
    """The values that the quantized levels cover, ``low <= 0 <= high``, in the tensor's own unit.

    Zero is always inside, because asymmetric quantization has to represent it exactly.
    """

    low: float
    high: float

    @classmethod
    def spanning(cls, low: float, high: float) -> Range:
        """Return the smallest range that holds ``low``, ``high`` and zero."""
        return cls(min(low, 0.0), max(high, 0.0))


def minmax(histogram: Histogram) -> Range:
    """Cover every value that was seen. Nothing is clipped, so one outlier costs all of them."""
    return Range.spanning(histogram.low, histogram.high)


def percentile(histogram: Histogram, kept: float = 0.9999) -> Range:
    """Cover at least the share ``kept`` of the values, cutting the rest off the tails.

    Half is cut from each end, or all from one end where the other ends at zero. Thresholds are
    rounded outward to the edge of a bin, and never lie beyond a value that was seen. Raises
    OptionError unless ``kept`` is above 0 and at most 1.
    """
    if not 0 < kept <= 1:
        raise OptionError(expected="a share above 0 and at most 1", got=str(kept), where="kept")
    whole = minmax(histogram)
    if not histogram.total:
        return whole
    ends = (whole.low < 0) + (whole.high > 0)
    cut = math.floor(histogram.total * (1 - kept) / max(ends, 1))
    below = np.cumsum(histogram.counts)
    above = histogram.total - below
    first = int(np.searchsorted(below, cut, side="right"))
    last = int(np.argmax(above <= cut))
    low = (first - histogram.bins) * histogram.width
    high = (last + 1 - histogram.bins) * histogram.width
    return Range.spanning(
        max(low, whole.low) if whole.low < 0 else 0.0,
        min(high, whole.high) if whole.high > 0 else 0.0,
    )


def mse(histogram: Histogram, levels: int = 256) -> Range:
    """Cover the range of least mean squared error when quantized to ``levels`` steps.

    A value inside costs step^2 / 12 of rounding noise, one outside the square of its distance from
    the range, an exact zero nothing. Both ends are searched over the edges of the bins; the
    extremes that were seen count as edges, so by this measure it is never worse than ``minmax``.

    Source: the objective of Banner et al., "Post training 4-bit quantization of convolutional
    networks for rapid-deployment", NeurIPS 2019 (arXiv 1810.05723), in the form of Sakr et al.,
    "Optimal Clipping and Magnitude-aware Differentiation" (OCTAV), ICML 2022 (arXiv 2206.06501).
    """
    whole = minmax(histogram)
    negative, positive = _sides(histogram)
    low = _Tail.clipped(negative, -whole.low / histogram.width)
    high = _Tail.clipped(positive, whole.high / histogram.width)
    row, column = _least(low, high, _spread(low.size), _spread(high.size), levels)
    row, column = _least(low, high, _near(row, low.size), _near(column, high.size), levels)
    return Range.spanning(
        -float(low.thresholds[row]) * histogram.width,
        float(high.thresholds[column]) * histogram.width,
    )


def entropy(histogram: Histogram) -> Range:
    """Cover the range whose quantized distribution diverges least from the one seen.

    For each number of bins from 128 up, the reference is the histogram of |x| with its tail folded
    into the last bin; the candidate is the same bins without the tail, merged into 128 levels and
    spread evenly over the bins in use. The threshold of least Kullback-Leibler divergence clips
    both sides; among equals it is the widest.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017. Two things differ. Exact zeros are
    left out: every range represents them, and after a ReLU their spike would drown the rest. And
    the candidate is not scaled back to a sum of 1, so mass that is clipped counts as lost: else
    values that all lie in [0.5, 1] are cut at 0.5, where reference and candidate are both one bin.
    """
    whole = minmax(histogram)
    negative, positive = _sides(histogram)
    folded = negative + positive
    used = _used(folded)
    if used <= _ENTROPY_LEVELS:
        return whole
    sizes = np.arange(_ENTROPY_LEVELS, used + 1)
    divergence = _divergence(folded[:used], sizes)
    best = np.flatnonzero(divergence <= divergence.min() + _DIVERGENCE_TOLERANCE)[-1]
    threshold = float(sizes[best]) * histogram.width
    return Range.spanning(max(whole.low, -threshold), min(whole.high, threshold))


#: What a user may name, and the function from a histogram to a range that it selects.
CALIBRATORS: Mapping[str, Callable[[Histogram], Range]] = MappingProxyType(
    {"minmax": minmax, "percentile": percentile, "mse": mse, "entropy": entropy}
)


def quantize_dequantize(
    x: npt.NDArray[Any], clip: Range, levels: int = 256
) -> npt.NDArray[np.float32]:
    """Return what is left of ``x`` (any shape) after asymmetric quantization to ``clip``.

    The zero point is rounded to a level, as runtimes do, so the covered values may shift by half a
    step; signed and unsigned 8 bits differ by 128 in the stored number and give the same values.
    A range too narrow for a float32 step represents zero alone.

    >>> quantize_dequantize(np.array([-1.0, 0.0, 0.9, 9.0]), Range(-1.0, 2.0), levels=4).tolist()
    [-1.0, 0.0, 1.0, 2.0]
    """
    step = np.float32((clip.high - clip.low) / (levels - 1))
    if step < np.finfo(np.float32).tiny:
        return np.zeros(np.shape(x), np.float32)
    zero_point = np.rint(np.float32(-clip.low) / step)
    with np.errstate(over="ignore"):
        scaled = np.rint(np.asarray(x, np.float32) / step)
    kept = np.clip(scaled, -zero_point, np.float32(levels - 1) - zero_point)
    return np.asarray(kept * step, np.float32)


def sqnr_db(x: npt.NDArray[Any], clip: Range, levels: int = 256) -> float:
    """Signal-to-quantization-noise ratio of ``x`` quantized to ``clip``, in dB.

    All values count, those that are clipped too. Infinite where nothing is lost.
    """
    signal = np.asarray(x, np.float64)
    noise = float(np.square(signal - quantize_dequantize(x, clip, levels)).sum())
    power = float(np.square(signal).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(power / noise)


class _Tail(msgspec.Struct, frozen=True):
    """One side of zero, by where it might be clipped: one entry a threshold, units of a bin."""

    thresholds: Any
    noise: Any
    inside: Any

    @property
    def size(self) -> int:
        return len(self.thresholds)

    @classmethod
    def clipped(cls, counts: _Floats, extreme: float) -> _Tail:
        """Try each edge up to ``extreme``: summed squared error beyond it, and the mass inside.

        Values lie evenly within their bin, which for the last one ends at ``extreme``.
        """
        used = _used(counts)
        counts = counts[:used]
        edges = np.append(np.arange(used, dtype=np.float64), extreme)
        centers, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
        moments = (counts, counts * centers, counts * (centers**2 + widths**2 / 12))
        mass, first, second = (np.append(np.cumsum(m[::-1])[::-1], 0.0) for m in moments)
        noise = np.maximum(second - 2 * edges * first + edges**2 * mass, 0.0)
        return cls(edges, noise, mass[0] - mass)


def _sides(histogram: Histogram) -> tuple[_Floats, _Floats]:
    """Split counts at zero: both sides lead away from it, and exact zeros are in neither."""
    counts = histogram.counts.astype(np.float64)
    negative, positive = counts[: histogram.bins][::-1], counts[histogram.bins :]
    positive[0] -= histogram.zeros
    return negative, positive


def _used(counts: _Floats) -> int:
    """Number of bins up to the last that holds anything."""
    return int(np.max(np.flatnonzero(counts), initial=-1)) + 1


def _spread(size: int) -> npt.NDArray[np.intp]:
    """Indices over the whole of a tail, both ends among them."""
    return np.unique(np.linspace(0, size - 1, min(size, _COARSE)).astype(np.intp))


def _near(index: int, size: int) -> npt.NDArray[np.intp]:
    """Every index between the neighbours of ``index`` in ``_spread``."""
    reach = size // _COARSE + 1
    return np.arange(max(index - reach, 0), min(index + reach + 1, size))


def _least(
    low: _Tail,
    high: _Tail,
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    levels: int,
) -> tuple[int, int]:
    """Indices into ``low`` and ``high`` of the least error, among these rows and columns."""
    span = np.add.outer(low.thresholds[rows], high.thresholds[columns])
    rounded = np.add.outer(low.inside[rows], high.inside[columns])
    error = np.add.outer(low.noise[rows], high.noise[columns])
    error += rounded * np.square(span / (levels - 1)) / 12
    row, column = np.unravel_index(int(error.argmin()), error.shape)
    return int(rows[row]), int(columns[column])


def _divergence(folded: _Floats, sizes: npt.NDArray[np.intp]) -> _Floats:
    """Divergence for each number of leading bins in ``sizes``, all from prefix sums.

    The candidate is constant over the bins in use of a level, so the sum over bins of P log Q is a
    sum over levels of mass * log(mass / bins in use).
    """
    total = folded.sum()
    before = np.concatenate([[0.0], np.cumsum(folded)])
    in_use = np.concatenate([[0], np.cumsum(folded > 0)])
    self_terms = np.concatenate([[0.0], np.cumsum(folded * _log(folded))])
    levels = np.arange(_ENTROPY_LEVELS + 1)
    bounds = -(-np.outer(sizes, levels) // _ENTROPY_LEVELS)
    candidate = np.diff(before[bounds], axis=1)
    occupied = np.diff(in_use[bounds], axis=1).astype(np.float64)
    reference = candidate.copy()
    last, tail = folded[sizes - 1], total - before[sizes]
    reference[:, -1] += tail
    occupied[:, -1] += (last == 0) & (tail > 0)
    candidate = np.where(reference > 0, np.maximum(candidate, _UNSEEN), 0.0)
    p_log_p = self_terms[sizes - 1] + (last + tail) * _log(last + tail)
    p_log_q = (reference * (_log(candidate) - _log(occupied))).sum(axis=1)
    return np.asarray((p_log_p - p_log_q) / total)


def _log(x: _Floats) -> _Floats:
    """Natural logarithm, 0 where ``x`` is 0, so that x log x has its limit there."""
    logarithm: _Floats = np.log(x, out=np.zeros_like(x), where=x > 0)
    return logarithm
