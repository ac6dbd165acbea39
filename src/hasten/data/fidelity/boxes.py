"""Boxes: who finds its partner, by overlap and class, among those with a score that counts.

Both models' boxes are asked: what the reference found has to be there, and what is there has to
have been found. The reference stands where annotated boxes do in detection metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.compared import Case, Comparison, Floats, by_mean
from hasten.data.meaning import Meaning

__all__ = [
    "Found",
    "compare_boxes",
    "compare_boxes_and_scores",
    "corners",
    "kept_boxes",
    "overlaps",
]

#: Overlap (IoU) from which a box counts for something, and from which it counts in full.
_LEAST, _FULL = 0.5, 0.85
#: Boxes of a score above this count, or above half of the best score there is.
_SCORE = 0.25
#: A partner may score so much less: a threshold is no cliff.
_SLACK = 0.7
#: A box weighs in full from this far on, between the threshold and the best score there is.
_RAMP = 0.2
#: So many boxes of a sample are asked for, and so many may be their partners.
_ASKED, _PARTNERS = 100, 400
_BOX = 4


@dataclass(frozen=True, eq=False)
class Found:
    """Boxes of one sample as corners, [n, 4], the score of each, [n], and of classes, [n, c]."""

    boxes: Floats
    score: Floats
    classes: Floats

    def best(self, least: float, count: int) -> Found:
        """Return those of at least this score, the best so many."""
        order = np.argsort(-self.score, kind="stable")[:count]
        order = order[self.score[order] >= least]
        return Found(self.boxes[order], self.score[order], self.classes[order])


def compare_boxes(case: Case) -> Comparison:
    """Match boxes by overlap, and by class where an output of their own holds scores."""
    if case.scores is None or case.own_scores is None:
        return by_mean(np.array(list(_in_place(case))))
    told = [
        Found(_boxes(case.meaning, box), *_judged(score))
        for box, score in zip(case.reference.parts, case.scores.parts, strict=True)
    ]
    said = [
        Found(_boxes(case.meaning, box), *_judged(score))
        for box, score in zip(case.output.parts, case.own_scores.parts, strict=True)
    ]
    return kept_boxes(told, said)


def compare_boxes_and_scores(case: Case) -> Comparison:
    """Match the boxes of one tensor by overlap and class."""
    told = [_split(case.meaning, one) for one in case.reference.parts]
    said = [_split(case.meaning, one) for one in case.output.parts]
    return kept_boxes(told, said)


def kept_boxes(told: list[Found], said: list[Found], least: float | None = None) -> Comparison:
    """Return the mean over samples of what is found in both (F1), a near miss in part.

    Boxes that score ``least``, where they begin to count, weigh nothing, and more from there on: a
    box that only just passed a threshold may as well not have.
    """
    best = max((float(one.score.max()) for one in told if len(one.score)), default=0.0)
    least = min(_SCORE, best / 2) if least is None else least
    full = least + _RAMP * (best - least)
    per_sample = [_alike(one, other, least, full) for one, other in zip(told, said, strict=True)]
    return by_mean(np.array(per_sample, np.float64))


def _alike(one: Found, other: Found, least: float, full: float) -> float:
    asked, answered = one.best(least, _ASKED), other.best(least, _ASKED)
    if not len(asked.score) and not len(answered.score):
        return 1.0
    recall, wanted = _credit(asked, other.best(_SLACK * least, _PARTNERS), least, full)
    precision, given = _credit(answered, one.best(_SLACK * least, _PARTNERS), least, full)
    # As many places as a box would have that counts in full: a lone box at the threshold is none.
    missed = wanted * (1 - recall) + given * (1 - precision)
    return 1 - missed / max(wanted + given, 1.0)


def _credit(asked: Found, partners: Found, least: float, full: float) -> tuple[float, float]:
    """Return how well the best partners fit, a mean over the weight asked for, and that weight."""
    if not len(asked.score):
        return 1.0, 0.0
    weights = np.clip((asked.score - least) / max(full - least, 1e-12), 0.0, 1.0)
    if full <= least:
        weights = np.ones(len(asked.score))
    whole = float(weights.sum())
    if not len(partners.score) or not whole:
        return float(not whole), whole
    fits = _worth(overlaps(asked.boxes, partners.boxes))
    if asked.classes.shape[1] > 1:
        wanted = asked.classes.argmax(axis=1)
        high = partners.classes.max(axis=1)
        fits = fits * (partners.classes[:, wanted] >= _SLACK * high[:, np.newaxis]).T
    return float((fits.max(axis=1) * weights).sum() / whole), whole


def _worth(overlap: Floats) -> Floats:
    return np.asarray(np.clip((overlap - _LEAST) / (_FULL - _LEAST), 0.0, 1.0))


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union of each box, as corners, with each of the others: [n, m]."""
    low = np.maximum(one[:, np.newaxis, :2], other[np.newaxis, :, :2])
    high = np.minimum(one[:, np.newaxis, 2:], other[np.newaxis, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    sizes = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(axis=-1) for each in (one, other)]
    union = sizes[0][:, np.newaxis] + sizes[1][np.newaxis] - shared
    return np.asarray(np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0))


def corners(boxes: Floats, written: str) -> Floats:
    """Return [..., 4] as corners."""
    if written == "xyxy":
        return boxes
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def _in_place(case: Case) -> Iterator[float]:
    """Yield for each sample how well boxes fit those that stand in the same place."""
    for want, have in zip(case.reference.parts, case.output.parts, strict=True):
        pairs = (_boxes(case.meaning, each) for each in (want, have))
        one, other = pairs
        low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        sizes = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(axis=1) for each in (one, other)]
        union = sizes[0] + sizes[1] - shared
        real = sizes[0] > 0
        if not real.any():
            yield 1.0
            continue
        yield float(_worth(shared[real] / np.maximum(union[real], 1e-12)).mean())


def _boxes(meaning: Meaning, values: NDArray[np.generic]) -> Floats:
    table = np.moveaxis(np.asarray(values, np.float64), meaning.box_axis, -1).reshape(-1, _BOX)
    return corners(table, meaning.box_format)


def _split(meaning: Meaning, values: NDArray[np.generic]) -> Found:
    """Take one tensor apart."""
    table = np.moveaxis(np.asarray(values, np.float64), meaning.box_axis, -1)
    table = table.reshape(-1, table.shape[-1])
    classes = table[:, _BOX:]
    if meaning.objectness:
        classes = classes[:, 1:] * classes[:, :1]
    return Found(corners(table[:, :_BOX], meaning.box_format), classes.max(axis=1), classes)


def _judged(values: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Return (score, classes) of each box from an output of scores, [n] or [n, classes].

    Where classes exclude each other, most boxes are of the background: that class does not count.
    """
    scores = np.asarray(values, np.float64)
    scores = scores.reshape(scores.shape[0], -1) if scores.ndim > 1 else scores[:, np.newaxis]
    if scores.shape[1] == 1:
        return scores[:, 0], scores
    if scores.min() < 0 or scores.max() > 1:  # logits
        parts = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = parts / parts.sum(axis=1, keepdims=True)
    if np.allclose(scores.sum(axis=1), 1, atol=1e-2):
        background = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]).argmax()
        scores = scores.copy()
        scores[:, background] = 0.0
    return scores.max(axis=1), scores
