"""How close two sets of outputs are: agreement, cosine similarity and SQNR."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SQNR_LIMIT_DB", "agreement", "mean_cosine", "sqnr_db"]

#: Equal outputs have no noise, and JSON no infinity; float64 resolves about 300 dB.
SQNR_LIMIT_DB = 200.0

#: As much of an output as is widened to float64 at a time, in values.
_PIECE_VALUES = 2**20

Values = NDArray[np.float64]


def agreement(output: NDArray[Any], reference: NDArray[Any]) -> float | None:
    """Share of rows (all axes but the last) with the same largest value; None without classes.

    >>> agreement(np.array([[1, 2], [3, 0]]), np.array([[0, 9], [0, 9]]))
    0.5
    """
    least = 2
    if reference.ndim < least or reference.shape[-1] < least:
        return None
    return float(np.mean(output.argmax(axis=-1) == reference.argmax(axis=-1)))


def mean_cosine(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    """Mean cosine similarity over samples, then over outputs.

    Two samples of zeros are equal (1), one against another of zeros is not (0).

    >>> mean_cosine([(np.array([[3.0, 4.0]]), np.array([[6.0, 8.0]]))])
    1.0
    """
    return float(np.mean([_cosine(output, reference) for output, reference in pairs]))


def _cosine(output: NDArray[Any], reference: NDArray[Any]) -> float:
    total, count = 0.0, 0
    for have, want in _pieces(output, reference):
        dot = np.einsum("ij,ij->i", have, want)
        have_norm, want_norm = np.linalg.norm(have, axis=1), np.linalg.norm(want, axis=1)
        lengths = have_norm * want_norm
        both_zero = (have_norm == 0) & (want_norm == 0)
        cosines = np.where(both_zero, 1.0, dot / np.where(lengths == 0, 1.0, lengths))
        total += float(np.clip(cosines, -1.0, 1.0).sum())
        count += len(have)
    return total / count


def sqnr_db(output: NDArray[Any], reference: NDArray[Any]) -> float:
    """Signal to quantization noise ratio, 10 log10(sum reference^2 / sum difference^2), in dB.

    Held within +-SQNR_LIMIT_DB.

    >>> round(sqnr_db(np.array([1.1]), np.array([1.0])), 6)
    20.0
    """
    signal = noise = 0.0
    for have, want in _pieces(output, reference):
        signal += float(np.square(want).sum())
        noise += float(np.square(have - want).sum())
    if noise == 0:
        return SQNR_LIMIT_DB
    if signal == 0:
        return -SQNR_LIMIT_DB
    ratio_db = 10 * (math.log10(signal) - math.log10(noise))
    return max(-SQNR_LIMIT_DB, min(SQNR_LIMIT_DB, ratio_db))


def _pieces(output: NDArray[Any], reference: NDArray[Any]) -> Iterator[tuple[Values, Values]]:
    """Yield both as float64 [samples, values], some samples at a time."""
    have, want = (np.atleast_1d(each) for each in (output, reference))
    step = max(1, _PIECE_VALUES // max(1, want[:1].size))
    for start in range(0, len(want), step):
        rows = slice(start, start + step)
        count = len(want[rows])
        yield (
            have[rows].astype(np.float64).reshape(count, -1),
            want[rows].astype(np.float64).reshape(count, -1),
        )
