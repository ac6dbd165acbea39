"""Class scores: how good the classes that a model chooses are to the reference.

The share of equal decisions says little where the reference itself hardly prefers one of two
classes: which of them comes out ahead then is rounding, in any runtime. So a choice counts by what
the reference gives for it: its best class for 1, one of average score for 0. A decision that flips
where the reference was sure costs as much as a wrong one, a flip of a near tie next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.compared import Case, Comparison, Floats, by_mean
from hasten.data.fidelity.values import kept_values

__all__ = ["classes_last", "compare_probabilities", "compare_scores", "decided", "regrets"]

_HALF = 0.5
#: Both decisions have to occur in this share of places for them to tell something.
_RARE = 0.01


def compare_scores(case: Case) -> Comparison:
    """Return what the chosen classes score to the reference, between blind choice and its best."""
    count = len(case.reference)
    lost, at_stake = np.zeros(count), np.zeros(count)
    for rows, want, have in classes_last(case):
        regret, stake = regrets(want, have)
        lost[rows] = regret.reshape(len(want), -1).sum(axis=1)
        at_stake[rows] = stake.reshape(len(want), -1).sum(axis=1)
    return _kept(lost, at_stake)


def compare_probabilities(case: Case) -> Comparison:
    """Return the same for decisions between classes, or for each class whether it is there at all.

    Where hardly any probability is above one half, or hardly any below, values tell what decisions
    do not.
    """
    if case.meaning.exclusive and case.meaning.class_axis is not None:
        return compare_scores(case)
    count = len(case.reference)
    lost, at_stake = np.zeros(count), np.zeros(count)
    above = total = 0
    for (rows, want), (_, have) in zip(case.reference.pieces(), case.output.pieces(), strict=True):
        sure = np.abs(want.astype(np.float64) - _HALF)
        flipped = (have >= _HALF) != (want >= _HALF)
        lost[rows] = (sure * flipped).reshape(len(want), -1).sum(axis=1)
        at_stake[rows] = sure.reshape(len(want), -1).sum(axis=1)
        above, total = above + int((want >= _HALF).sum()), total + want.size
    if not _RARE <= above / max(1, total) <= 1 - _RARE:
        return kept_values(case)
    return _kept(lost, at_stake)


def decided(scores: Floats) -> NDArray[np.int64]:
    """Return the class of the largest score along the last axis."""
    return np.asarray(scores.argmax(axis=-1))


def regrets(want: Floats, have: Floats) -> tuple[Floats, Floats]:
    """Return by place what the choice made of ``have`` costs to ``want``, and what was at stake.

    Classes are along the last axis. At stake is what the best class scores above the mean of all.
    """
    finite = np.where(np.isfinite(want), want, np.nan)
    low = np.nan_to_num(np.nanmin(finite, axis=-1, keepdims=True))
    known = np.where(np.isfinite(want), want, low)
    best = known.max(axis=-1)
    chosen = np.take_along_axis(known, decided(have)[..., np.newaxis], -1)[..., 0]
    return np.asarray(best - chosen), np.asarray(best - known.mean(axis=-1))


def classes_last(case: Case) -> Iterator[tuple[slice, Floats, Floats]]:
    """Yield pieces of reference and output, [samples, ..., classes]."""
    axis = -1 if case.meaning.class_axis is None else case.meaning.class_axis
    for (rows, want), (_, have) in zip(case.reference.pieces(), case.output.pieces(), strict=True):
        yield (
            rows,
            np.moveaxis(want.astype(np.float64), axis, -1),
            np.moveaxis(have.astype(np.float64), axis, -1),
        )


def _kept(lost: Floats, at_stake: Floats) -> Comparison:
    whole = at_stake.sum()
    figure = 1 - lost.sum() / whole if whole > 0 else float(not lost.any())
    safe = np.where(at_stake > 0, at_stake, 1.0)
    samples = np.where(at_stake > 0, 1 - lost / safe, 1.0)
    if not samples.size:
        return by_mean(samples)
    return Comparison(float(np.clip(figure, 0.0, 1.0)), np.clip(samples, 0.0, 1.0))
