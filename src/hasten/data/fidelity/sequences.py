"""Sequences of class scores: what is decoded, and how far apart two decodings are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.compared import Case, Comparison, Floats, by_mean
from hasten.data.fidelity.decisions import decided, regrets

__all__ = ["collapsed", "compare_sequences", "edit_distance"]


def compare_sequences(case: Case) -> Comparison:
    """Return the mean over samples of the better of two figures.

    One is 1 - edit distance / length of the most likely classes with repeats collapsed, which is
    greedy decoding as connectionist temporal classification does it, but for the blank, a class
    like any other here. The other is what the chosen classes score to the reference, step by step:
    a step at which two classes are all but tied breaks a decoding, and says nothing.
    """
    axis = -1 if case.meaning.class_axis is None else case.meaning.class_axis
    per_sample = np.ones(len(case.reference))
    for at, (want, have) in enumerate(zip(case.reference.parts, case.output.parts, strict=True)):
        exact = np.moveaxis(want.astype(np.float64), axis, -1)
        near = np.moveaxis(have.astype(np.float64), axis, -1)
        per_sample[at] = max(_as_decoded(exact, near), _as_scored(exact, near))
    return by_mean(per_sample)


def collapsed(classes: NDArray[np.int64]) -> list[int]:
    """Return the classes without repeats.

    >>> collapsed(np.array([0, 0, 3, 3, 0, 5]))
    [0, 3, 0, 5]
    """
    if not len(classes):
        return []
    changes = np.flatnonzero(np.diff(classes)) + 1
    return [int(classes[at]) for at in (0, *changes)]


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Count the insertions, deletions and substitutions from one to the other (Levenshtein, 1966).

    >>> edit_distance("kitten", "sitting")
    3
    """
    before = list(range(len(other) + 1))
    for at, mine in enumerate(one, 1):
        now = [at]
        for place, theirs in enumerate(other, 1):
            now.append(min(before[place] + 1, now[-1] + 1, before[place - 1] + (mine != theirs)))
        before = now
    return before[-1]


def _as_decoded(exact: Floats, near: Floats) -> float:
    if exact.shape[-1] != near.shape[-1]:
        return 0.0
    told, said = decided(exact), decided(near)
    if told.shape == said.shape and np.array_equal(told, said):
        return 1.0
    rows = zip(told.reshape(-1, told.shape[-1]), said.reshape(-1, said.shape[-1]), strict=False)
    kept = []
    for one, other in rows:
        ours, theirs = collapsed(one), collapsed(other)
        kept.append(1 - edit_distance(ours, theirs) / max(len(ours), len(theirs), 1))
    return float(np.mean(kept))


def _as_scored(exact: Floats, near: Floats) -> float:
    if exact.shape != near.shape or not exact.size:
        return 0.0
    lost, at_stake = (each.sum() for each in regrets(exact, near))
    return float(np.clip(1 - lost / at_stake, 0.0, 1.0)) if at_stake > 0 else 0.0
