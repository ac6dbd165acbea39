"""How alike two outputs vary over samples: signal, noise and what is left of each channel.

It needs no understanding of what an output means. The mean over samples is taken off each value
first: a large part that never changes would hide that the rest is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Output

__all__ = ["SQNR_LIMIT_DB", "Variation", "decibels", "variation"]

#: Equal outputs have no noise, and JSON no infinity; float64 resolves about 300 dB.
SQNR_LIMIT_DB = 200.0
#: A reference that varies by less than this share of its power does not vary but for rounding.
_STILL = 1e-10

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Variation:
    """Sums over samples of squared values, by channel and by sample.

    ``signal`` is of the reference around its mean over samples, ``noise`` of the difference,
    ``moved`` of the other output around its own mean and ``common`` of the products of both;
    ``power`` is of the reference as it is. Each is [channels], of ``count`` values each, but for
    ``sample_signal`` and ``sample_noise``, which are [samples]. ``centred`` says that there was a
    mean over samples to take off.
    """

    signal: Floats
    noise: Floats
    moved: Floats
    common: Floats
    power: Floats
    sample_signal: Floats
    sample_noise: Floats
    count: int
    centred: bool

    @property
    def is_still(self) -> bool:
        """Whether the reference gives the same for every sample, but for rounding."""
        return bool(self.signal.sum() <= _STILL * self.power.sum())

    @property
    def noise_share(self) -> float:
        """Noise as a share of the signal; of the power, where the reference does not vary."""
        return _ratio(self.noise.sum(), (self.power if self.is_still else self.signal).sum())

    @property
    def sqnr_db(self) -> float:
        """Signal to noise of the centred output in dB, within +-SQNR_LIMIT_DB."""
        return decibels(self.noise_share)

    @property
    def spread(self) -> float:
        """The standard deviation of the reference, over samples and all values."""
        return math.sqrt(self.signal.sum() / max(1, self.count * len(self.signal)))

    @property
    def kept(self) -> Floats:
        """By channel, the share of the reference's variation that is kept: 1 - noise / signal."""
        return 1 - np.array(
            [_ratio(*pair) for pair in zip(self.noise, self.signal, strict=True)], np.float64
        )

    def among(self, channels: slice) -> Variation:
        """Return what is known of these channels alone; sums by sample stay those of all."""
        return replace(
            self,
            signal=self.signal[channels],
            noise=self.noise[channels],
            moved=self.moved[channels],
            common=self.common[channels],
            power=self.power[channels],
        )


def variation(output: Output, reference: Output, class_axis: int | None = None) -> Variation:
    """Measure how alike they vary; channels are along ``class_axis``, else there is one.

    Both hold the same samples in the same shapes. Values that are infinite in both are left out,
    and integers, which are codes of values here, may be one off.
    """
    mean = _mean(reference)
    sums = _Sums(reference, class_axis, mean)
    for (rows, want), (_, have) in zip(reference.pieces(), output.pieces(), strict=True):
        sums.add(rows, want, have)
    return sums.done()


def decibels(noise_share: float) -> float:
    """Return -10 log10 of a share of noise, within +-SQNR_LIMIT_DB.

    >>> decibels(0.01), decibels(0.0)
    (20.0, 200.0)
    """
    if noise_share <= 0:
        return SQNR_LIMIT_DB
    if math.isinf(noise_share):
        return -SQNR_LIMIT_DB
    return max(-SQNR_LIMIT_DB, min(SQNR_LIMIT_DB, -10 * math.log10(noise_share)))


class _Sums:
    """Running sums over pieces of both outputs."""

    def __init__(self, reference: Output, class_axis: int | None, mean: Any) -> None:
        self._axis, self._mean = class_axis, mean
        self._centred = mean is not None
        channels = 1
        if class_axis is not None and reference.parts[0].ndim:
            channels = reference.parts[0].shape[class_axis]
        self._by_channel = np.zeros((5, channels))
        self._first: Any = 0.0
        self._by_sample = np.zeros((2, len(reference)))
        self._count = 0

    def add(self, rows: slice, want: NDArray[Any], have: NDArray[Any]) -> None:
        exact, near = want.astype(np.float64), have.astype(np.float64)
        finite = np.isfinite(exact) & np.isfinite(near)
        if not finite.all():
            exact, near = np.where(finite, exact, 0.0), np.where(finite, near, 0.0)
        mean = self._mean if self._mean is not None else exact.mean()
        around, moved, apart = exact - mean, near - mean, near - exact
        if want.dtype.kind in "iu":
            # Codes of 8 and 16 bits: runtimes round ties otherwise, by a code at the most.
            apart = np.sign(apart) * np.maximum(np.abs(apart) - 1, 0)
        if not finite.all():
            around, moved = np.where(finite, around, 0.0), np.where(finite, moved, 0.0)
        for at, values in enumerate((around**2, apart**2, moved**2, around * moved, exact**2)):
            self._by_channel[at] += self._channels(values)
        if self._centred:
            self._first = self._first + moved.sum(axis=0)
        self._by_sample[0, rows] = _per_sample(around**2)
        self._by_sample[1, rows] = _per_sample(apart**2)
        self._count += exact.size // len(self._by_channel[0])

    def done(self) -> Variation:
        signal, noise, moved, common, power = self._by_channel
        if self._centred:
            samples = self._by_sample.shape[1]
            own_mean = np.asarray(self._first, np.float64)[np.newaxis] / samples
            moved = np.maximum(moved - samples * self._channels(own_mean**2), 0.0)
        sample_signal, sample_noise = self._by_sample
        return Variation(
            signal,
            noise,
            moved,
            common,
            power,
            sample_signal,
            sample_noise,
            self._count,
            self._centred,
        )

    def _channels(self, values: Floats) -> Floats:
        if self._axis is None or values.ndim == 1:
            return np.array([values.sum()])
        axis = values.ndim + self._axis
        return np.asarray(values.sum(axis=tuple(at for at in range(values.ndim) if at != axis)))


def _mean(reference: Output) -> Floats | None:
    """Return the mean over samples, [...]; None where there is only one, or sizes differ."""
    if reference.values is None or len(reference) < 2:  # noqa: PLR2004 - a mean of one is itself
        return None
    total: Any = 0.0
    for _, want in reference.pieces():
        exact = want.astype(np.float64)
        total = total + np.where(np.isfinite(exact), exact, 0.0).sum(axis=0)
    return np.asarray(total / len(reference), np.float64)


def _per_sample(values: Floats) -> Floats:
    return np.asarray(values.reshape(len(values), -1).sum(axis=1))


def _ratio(part: float, whole: float) -> float:
    if part <= 0:
        return 0.0
    return float(part / whole) if whole > 0 else math.inf
