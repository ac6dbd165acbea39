"""Texts, labels and other integers: the share that is the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.compared import Case, Comparison, by_mean

__all__ = ["compare_texts"]


def compare_texts(case: Case) -> Comparison:
    """Return the mean over samples of the share of values that are the same.

    Samples of varying number are compared as rows in any order: what both have, of what either has.
    """
    per_sample = np.empty(len(case.reference))
    for at, (want, have) in enumerate(zip(case.reference.parts, case.output.parts, strict=True)):
        per_sample[at] = _same(np.asarray(want), np.asarray(have))
    return by_mean(per_sample)


def _same(want: NDArray[np.generic], have: NDArray[np.generic]) -> float:
    if want.shape == have.shape:
        return float(np.mean(want == have)) if want.size else 1.0
    ours, theirs = (_rows(one) for one in (want, have))
    either = len(ours | theirs)
    return len(ours & theirs) / either if either else 1.0


def _rows(values: NDArray[np.generic]) -> set[tuple[object, ...]]:
    flat = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
    return {tuple(row.tolist()) for row in flat}
