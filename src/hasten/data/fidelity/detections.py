"""Detections of varying number: two sets of boxes, with what stands beside them in their rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hasten.data.fidelity.boxes import Found, corners, kept_boxes
from hasten.data.fidelity.compared import Case, Comparison, Floats
from hasten.data.meaning import Meaning

__all__ = ["compare_detections"]

_BOX = 4


def compare_detections(case: Case) -> Comparison:
    """Match boxes by overlap; scores and whole numbers (classes) in their rows count too."""
    told, said = (
        [np.asarray(one, np.float64).reshape(-1, one.shape[-1]) for one in output.parts]
        for output in (case.reference, case.output)
    )
    columns = _columns(case.meaning, np.concatenate(told), np.concatenate(said))
    found = [_found(case.meaning, table, columns) for table in told]
    least = min((float(one.score.min()) for one in found if len(one.score)), default=0.0)
    return kept_boxes(
        found,
        [_found(case.meaning, table, columns) for table in said],
        # They have passed a threshold already; without scores all count alike.
        least if columns.score is not None else None,
    )


class _Columns(NamedTuple):
    """Which columns beside the box hold the score and the class, and how many classes there are."""

    score: int | None
    number: int | None
    classes: int


def _columns(meaning: Meaning, told: Floats, said: Floats) -> _Columns:
    box = range(meaning.box_start, meaning.box_start + _BOX)
    columns = range(told.shape[1] if len(told) else 0)
    beside = [at for at in columns if at not in box and np.ptp(told[:, at])]
    whole = [at for at in beside if (told[:, at] == np.rint(told[:, at])).all()]
    scores = [
        at for at in beside if at not in whole and told[:, at].min() >= 0 and told[:, at].max() <= 1
    ]
    number = next(iter(whole), None)
    both = () if number is None else np.concatenate([told[:, number], said[:, number]])
    return _Columns(next(iter(scores), None), number, int(max(both, default=0)) + 1)


def _found(meaning: Meaning, table: Floats, columns: _Columns) -> Found:
    boxes = table[:, meaning.box_start : meaning.box_start + _BOX]
    score = np.ones(len(table)) if columns.score is None else table[:, columns.score]
    classes = score[:, np.newaxis]
    if columns.number is not None:
        numbers = np.clip(np.rint(table[:, columns.number]), 0, columns.classes - 1)
        classes = np.zeros((len(table), columns.classes))
        # A class of its own even at a score of 0.
        classes[np.arange(len(table)), numbers.astype(int)] = np.maximum(score, 1e-9)
    return Found(corners(boxes, meaning.box_format), score, classes)
