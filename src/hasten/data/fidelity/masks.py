"""Masks: how far the places of each class overlap (intersection over union)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.compared import Case, Comparison, Floats
from hasten.data.fidelity.decisions import decided, regrets
from hasten.data.fidelity.values import kept_values

__all__ = ["compare_masks"]

_HALF = 0.5
#: Classes with fewer places than this share of a sample are left to the floor.
_SMALL = 0.005


def compare_masks(case: Case) -> Comparison:
    """Return the mean over samples of the mean IoU over classes that a sample has.

    A class for each place comes from its scores, from probabilities at one half, or is there as it
    is. Where both models differ, a place weighs by how sure the reference was of it. Where no
    sample has a mask, values tell what masks do not.
    """
    per_sample = np.full(len(case.reference), np.nan)
    for at, (want, have) in enumerate(zip(case.reference.parts, case.output.parts, strict=True)):
        per_sample[at] = _overlap(*_classes(case, np.asarray(want), np.asarray(have)))
    known = ~np.isnan(per_sample)
    if not known.any():
        return kept_values(case)
    return Comparison(float(per_sample[known].mean()), np.where(known, per_sample, 1.0))


Classes = NDArray[np.int64]


def _classes(
    case: Case, want: NDArray[np.generic], have: NDArray[np.generic]
) -> tuple[Classes, Classes, Floats, bool]:
    """Return the class of each place in both, its weight, and whether class 0 is background."""
    axis = case.meaning.class_axis
    if want.dtype.kind in "biu":
        return want.astype(np.int64), have.astype(np.int64), np.ones(want.shape), False
    exact, near = want.astype(np.float64), have.astype(np.float64)
    if axis is not None and case.meaning.exclusive:
        exact, near = np.moveaxis(exact, axis, -1), np.moveaxis(near, axis, -1)
        regret, stake = regrets(exact, near)
        return decided(exact), decided(near), _weights(regret, stake), False
    threshold = _HALF if exact.min() >= 0 and exact.max() <= 1 else 0.0
    sure = np.abs(exact - threshold)
    told, said = ((each >= threshold).astype(np.int64) for each in (exact, near))
    return told, said, _weights(sure, sure), True


def _weights(sure: Floats, usual: Floats) -> Floats:
    """Return how sure the reference is of each place, 1 for what is usual and for more."""
    mean = usual.mean()
    return np.asarray(np.minimum(sure / mean, 1.0)) if mean > 0 else np.ones(sure.shape)


def _overlap(told: Classes, said: Classes, weights: Floats, has_background: bool) -> float:
    """Mean IoU over the classes of one sample; NaN where there is none."""
    least = _SMALL * told.size
    apart = told != said
    shares = []
    for one in np.union1d(told, said):
        ours, theirs = told == one, said == one
        if (has_background and one == 0) or (ours | theirs).sum() < least:
            continue
        shared = float((ours & theirs).sum())
        lost = float(weights[apart & (ours | theirs)].sum())
        shares.append(shared / (shared + lost) if shared or lost else 1.0)
    return float(np.mean(shares)) if shares else float("nan")
