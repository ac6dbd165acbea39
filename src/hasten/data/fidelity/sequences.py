"""Sequences of class scores: what is decoded, and how far apart two decodings are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.compared import Case, Comparison, by_mean
from hasten.data.fidelity.decisions import decided, excused

__all__ = ["collapsed", "compare_sequences", "edit_distance"]


def compare_sequences(case: Case) -> Comparison:
    """Return 1 - edit distance / length of the most likely classes, repeats collapsed.

    That is greedy decoding as connectionist temporal classification does it, but for the blank,
    which is a class like any other here.
    """
    axis = -1 if case.meaning.class_axis is None else case.meaning.class_axis
    per_sample = np.ones(len(case.reference))
    for at, (want, have) in enumerate(zip(case.reference.parts, case.output.parts, strict=True)):
        exact = np.moveaxis(want.astype(np.float64), axis, -1)
        near = np.moveaxis(have.astype(np.float64), axis, -1)
        if exact.shape[-1] != near.shape[-1]:
            per_sample[at] = 0.0
            continue
        told, said = decided(exact), decided(near)
        if exact.shape == near.shape:
            said = np.where(excused(case, exact, near), told, said)
        steps = told.shape[-1] if told.ndim else 1
        rows = zip(told.reshape(-1, steps), said.reshape(-1, said.shape[-1]), strict=False)
        kept = [_kept(collapsed(one), collapsed(other)) for one, other in rows]
        per_sample[at] = float(np.mean(kept))
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


def _kept(one: Sequence[int], other: Sequence[int]) -> float:
    longest = max(len(one), len(other), 1)
    return 1 - edit_distance(one, other) / longest
