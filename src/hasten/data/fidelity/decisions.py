"""Class scores: decisions that are the same, where the reference tells classes apart.

Two classes that the reference scores alike but for rounding are no decision: which of them comes
out ahead says nothing, in any runtime.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.compared import Case, Comparison, Floats, by_mean
from hasten.data.fidelity.values import kept_values

__all__ = ["NEAR_TIE", "compare_probabilities", "compare_scores", "decided", "excused"]

#: Scores closer than this, as a share of their standard deviation over samples, are tied.
NEAR_TIE = 0.05
_HALF = 0.5
#: Both decisions have to occur in this share of places for their agreement to tell something.
_RARE = 0.01


def compare_scores(case: Case) -> Comparison:
    """Share of places, in each sample, with the same class."""
    per_sample = np.empty(len(case.reference))
    for rows, want, have in _class_last(case):
        best = decided(want)
        same = (decided(have) == best) | excused(case, want, have)
        per_sample[rows] = same.reshape(len(want), -1).mean(axis=1)
    return by_mean(per_sample)


def compare_probabilities(case: Case) -> Comparison:
    """Return the share of equal decisions: between classes, or of each class at one half.

    Where hardly any is above one half, or hardly any below, values tell what decisions do not.
    """
    if case.meaning.exclusive and case.meaning.class_axis is not None:
        return compare_scores(case)
    per_sample = np.empty(len(case.reference))
    above = total = 0
    for (rows, want), (_, have) in zip(case.reference.pieces(), case.output.pieces(), strict=True):
        yes = want >= _HALF
        same = (have >= _HALF) == yes
        same |= np.abs(want - _HALF) <= _tie(case)
        per_sample[rows] = same.reshape(len(want), -1).mean(axis=1)
        above, total = above + int(yes.sum()), total + yes.size
    if not _RARE <= above / max(1, total) <= 1 - _RARE:
        return kept_values(case)
    return by_mean(per_sample)


def decided(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class of the largest score along the last axis."""
    return np.asarray(scores.argmax(axis=-1))


def excused(case: Case, want: Floats, have: Floats) -> NDArray[np.bool_]:
    """Whether what was chosen is as good as the best to the reference, but for a near tie."""
    chosen = np.take_along_axis(want, decided(have)[..., np.newaxis], -1)[..., 0]
    return np.asarray(want.max(axis=-1) - chosen <= _tie(case))


def _class_last(case: Case) -> Iterator[tuple[slice, Floats, Floats]]:
    """Yield pieces of reference and output with classes along the last axis."""
    axis = -1 if case.meaning.class_axis is None else case.meaning.class_axis
    for (rows, want), (_, have) in zip(case.reference.pieces(), case.output.pieces(), strict=True):
        yield (
            rows,
            np.moveaxis(want.astype(np.float64), axis, -1),
            np.moveaxis(have.astype(np.float64), axis, -1),
        )


def _tie(case: Case) -> float:
    return NEAR_TIE * (case.variation.spread if case.variation is not None else 0.0)
