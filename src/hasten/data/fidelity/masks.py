"""Masks: how far the places of each class overlap (intersection over union)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.compared import Case, Comparison
from hasten.data.fidelity.decisions import NEAR_TIE, decided, excused
from hasten.data.fidelity.values import kept_values

__all__ = ["compare_masks"]

_HALF = 0.5
#: Classes with fewer places than this share of a sample are left to the floor.
_SMALL = 0.005


def compare_masks(case: Case) -> Comparison:
    """Return the mean over samples of the mean IoU over classes that a sample has.

    A class for each place comes from its scores, from probabilities at one half, or is there as it
    is. Where no sample has a mask, values tell what masks do not.
    """
    per_sample = np.full(len(case.reference), np.nan)
    for at, (want, have) in enumerate(zip(case.reference.parts, case.output.parts, strict=True)):
        per_sample[at] = _overlap(*_classes(case, np.asarray(want), np.asarray(have)))
    known = ~np.isnan(per_sample)
    if not known.any():
        return kept_values(case)
    return Comparison(float(per_sample[known].mean()), np.where(known, per_sample, 1.0))


def _classes(
    case: Case, want: NDArray[np.generic], have: NDArray[np.generic]
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Return the class of each place in both, and whether class 0 is only background."""
    axis = case.meaning.class_axis
    if want.dtype.kind in "biu":
        return want.astype(np.int64), have.astype(np.int64), False
    exact, near = want.astype(np.float64), have.astype(np.float64)
    if axis is not None and case.meaning.exclusive:
        exact, near = np.moveaxis(exact, axis, -1), np.moveaxis(near, axis, -1)
        told, said = decided(exact), decided(near)
        return told, np.where(excused(case, exact, near), told, said), False
    is_probability = exact.min() >= 0 and exact.max() <= 1
    threshold = _HALF if is_probability else 0.0
    above = (exact >= threshold).astype(np.int64)
    spread = case.variation.spread if case.variation is not None else 0.0
    tied = np.abs(exact - threshold) <= NEAR_TIE * spread
    return above, np.where(tied, above, near >= threshold), True


def _overlap(told: NDArray[np.int64], said: NDArray[np.int64], has_background: bool) -> float:
    """Mean IoU over the classes of one sample; NaN where there is none."""
    least = _SMALL * told.size
    shares = []
    for one in np.union1d(told, said):
        if has_background and one == 0:
            continue
        ours, theirs = told == one, said == one
        union = int((ours | theirs).sum())
        if union >= least:
            shares.append((ours & theirs).sum() / union)
    return float(np.mean(shares)) if shares else float("nan")
