"""Embeddings: directions that are the same, and samples that are still nearest to themselves."""

from __future__ import annotations

import numpy as np

from hasten.data.fidelity.compared import Case, Comparison, Floats, by_mean

__all__ = ["compare_embeddings"]

#: Who is nearest to whom is asked of so many samples: it takes the square of it.
_NEIGHBOURS = 2048
#: A sample that is this near to another, in the reference, may be taken for it.
_TWINS = 1e-3


def compare_embeddings(case: Case) -> Comparison:
    """Return the lesser of two: mean cosine similarity, and the share of samples found again.

    A sample is found again when no other sample of the reference is nearer to what the other model
    makes of it: that is what a search with embeddings relies on.
    """
    axis = -1 if case.meaning.class_axis is None else case.meaning.class_axis
    per_sample = np.empty(len(case.reference))
    for (rows, want), (_, have) in zip(case.reference.pieces(), case.output.pieces(), strict=True):
        cosines = _cosines(want.astype(np.float64), have.astype(np.float64), axis)
        per_sample[rows] = cosines.reshape(len(want), -1).mean(axis=1)
    alike = by_mean(np.clip(per_sample, 0.0, 1.0))
    found = _found_again(case)
    return alike if found is None else Comparison(min(alike.figure, found), alike.samples)


def _cosines(one: Floats, other: Floats, axis: int) -> Floats:
    """Cosine similarity along an axis; two of length zero are equal, one alone is not."""
    lengths = np.linalg.norm(one, axis=axis) * np.linalg.norm(other, axis=axis)
    dots = (one * other).sum(axis=axis)
    both_zero = (np.abs(one).max(axis=axis) == 0) & (np.abs(other).max(axis=axis) == 0)
    return np.asarray(np.where(both_zero, 1.0, dots / np.where(lengths == 0, 1.0, lengths)))


def _found_again(case: Case) -> float | None:
    """Share of samples that are nearest to themselves; None where there is nothing to search."""
    want, have = case.reference.values, case.output.values
    if want is None or have is None or len(want) < 3 or want[0].size != want.shape[-1]:  # noqa: PLR2004
        return None
    count = min(len(want), _NEIGHBOURS)
    one, other = (_unit(each[:count].reshape(count, -1).astype(float)) for each in (want, have))
    nearness = other @ one.T
    own = np.diagonal(nearness).copy()
    twins = 1 - one @ one.T <= _TWINS
    nearness[twins] = -np.inf
    return float((own >= nearness.max(axis=1)).mean())


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths == 0, 1.0, lengths))
