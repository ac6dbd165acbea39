"""Where a detector's outputs hold boxes, scores and classes, and what it says of one sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers, Output
from hasten.data.meaning import Meaning
from hasten.data.metrics.detection.layout import Layout

__all__ = ["Candidates", "Source", "box_starts", "find_source", "read_sample"]

_BOX = 4
#: A score below this is none: what COCO evaluations of detectors take.
_LEAST_SCORE = 1e-3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """The outputs that hold detections.

    ``joined`` is one tensor of boxes and class scores; ``apart`` are boxes whose class scores are
    an output of their own, ``scores``; ``rows`` are detections that were chosen, each with one
    score and one class: columns of the same output, or outputs of as many rows.
    """

    form: Literal["joined", "apart", "rows"]
    boxes: Meaning
    scores: str = ""
    classes: str = ""
    score_column: int | None = None
    class_column: int | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs it reads."""
        return tuple(dict.fromkeys(filter(None, (self.boxes.output, self.scores, self.classes))))


class Candidates(NamedTuple):
    """Boxes as the model writes them, [k, 4], with a score and a class number each, [k]."""

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]


def find_source(answers: Answers, meanings: Mapping[str, Meaning]) -> Source | None:
    """Return where detections are: one tensor, rows of detections, or boxes beside scores."""
    by_kind = {kind: [one for one in meanings.values() if one.kind == kind] for kind in _KINDS}
    for meaning in by_kind["boxes_and_scores"]:
        return Source("joined", meaning)
    for meaning in by_kind["detections"]:
        return _rows(answers, meaning)
    for meaning in by_kind["boxes"]:
        return _beside(answers, meaning)
    return None


_KINDS = ("boxes_and_scores", "detections", "boxes")


def box_starts(answers: Answers, source: Source) -> list[Source]:
    """Return rows of detections with boxes beginning at each of their columns, as found first."""
    meaning = source.boxes
    width = max(part.shape[-1] for part in answers[meaning.output].parts if part.ndim)
    starts = dict.fromkeys((meaning.box_start, *range(width - _BOX + 1)))
    return [_rows(answers, msgspec.structs.replace(meaning, box_start=at)) for at in starts]


def _rows(answers: Answers, meaning: Meaning) -> Source:
    """Find score and class among the columns of a table, or among outputs of as many rows."""
    parts = [np.asarray(one, np.float64) for one in answers[meaning.output].parts]
    width = next((part.shape[-1] for part in parts if part.ndim), _BOX)
    table = np.concatenate([np.empty((0, width)), *(one.reshape(-1, width) for one in parts)])
    box = range(meaning.box_start, meaning.box_start + _BOX)
    score = whole = None
    for column in range(width):
        values = table[:, column]
        if column in box or not len(values) or values.min() < 0:
            continue
        if (values == np.rint(values)).all() and values.max() > 0:
            # A table with the number of its image has that first, and the class behind.
            whole = column if whole is None or column > box.stop - 1 else whole
        elif values.max() <= 1 and score is None:
            score = column
    if score is None and width == _BOX:
        return _beside(answers, meaning)
    return Source("rows", meaning, score_column=score, class_column=whole)


def _beside(answers: Answers, meaning: Meaning) -> Source:
    """Find the outputs that go with boxes: class scores, or one score and one class number."""
    scores = classes = matrix = ""
    counts = [_count(part, meaning) for part in answers[meaning.output].parts]
    for name, other in answers.items():
        if name == meaning.output or other.dtype.kind not in "biuf" or len(other) != len(counts):
            continue
        if [len(_flat(part)) for part in other.parts] == counts:
            values = np.concatenate([_flat(part) for part in other.parts])
            is_whole = len(values) > 0 and (values == np.rint(values)).all()
            if is_whole and (values.max() > 1 or other.dtype.kind in "iu"):
                classes = classes or name
            else:
                scores = scores or name
        elif all(_is_matrix(part, rows) for part, rows in zip(other.parts, counts, strict=True)):
            matrix = matrix or name
    if matrix and not classes:
        return Source("apart", meaning, matrix)
    if scores and not classes:
        return Source("apart", meaning, scores)
    return Source("rows", meaning, scores, classes)


def _count(part: NDArray[np.generic], meaning: Meaning) -> int:
    return part.size // (part.shape[meaning.box_axis] if part.ndim and part.size else _BOX)


def _flat(part: NDArray[np.generic]) -> Floats:
    return np.asarray(part, np.float64).reshape(-1)


def _is_matrix(part: NDArray[np.generic], rows: int) -> bool:
    """Whether these are scores of so many boxes, [boxes, classes] or the other way round."""
    plane = part.shape[-2:]
    return part.ndim > 1 and rows in plane and part.size == plane[0] * plane[1] > rows


def read_sample(answers: Answers, at: int, source: Source, layout: Layout) -> Candidates:
    """Return what the model found in one sample, scores too small left out."""
    if source.form == "joined":
        table = _table(answers[source.boxes.output], at, source.boxes.box_axis)
        scores = table[:, _BOX:]
        if layout.objectness:
            scores = scores[:, 1:] * scores[:, :1]
        return _pairs(table[:, :_BOX], _activated(scores, layout))
    if source.form == "apart":
        boxes = _table(answers[source.boxes.output], at, source.boxes.box_axis)
        scores = np.asarray(answers[source.scores].parts[at], np.float64)
        return _pairs(boxes, _activated(_by_box(scores, len(boxes)), layout))
    return _chosen(answers, at, source)


def _chosen(answers: Answers, at: int, source: Source) -> Candidates:
    table = _table(answers[source.boxes.output], at, source.boxes.box_axis)
    scores, classes = np.ones(len(table)), np.zeros(len(table), np.int64)
    if source.scores:
        scores = _flat(answers[source.scores].parts[at])
    elif source.score_column is not None:
        scores = table[:, source.score_column]
    if source.classes:
        classes = np.rint(_flat(answers[source.classes].parts[at])).astype(np.int64)
    elif source.class_column is not None:
        classes = np.rint(table[:, source.class_column]).astype(np.int64)
    start = source.boxes.box_start
    kept = scores >= _LEAST_SCORE
    return Candidates(table[:, start : start + _BOX][kept], scores[kept], classes[kept])


def _table(output: Output, at: int, axis: int) -> Floats:
    values = np.asarray(output.parts[at], np.float64)
    table = np.moveaxis(values, axis, -1) if values.ndim else values.reshape(0, _BOX)
    return table.reshape(-1, table.shape[-1])


def _by_box(scores: Floats, boxes: int) -> Floats:
    """Return scores as [boxes, classes]."""
    if scores.size == boxes:
        return scores.reshape(boxes, 1)
    rows, columns = scores.shape[-2], scores.shape[-1]
    plane = scores.reshape(rows, columns)
    return plane if rows == boxes else plane.T


def _activated(scores: Floats, layout: Layout) -> Floats:
    if layout.activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(scores, -60, 60))))
    if layout.activation == "softmax":
        parts = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-1e30))
        return np.asarray(parts / parts.sum(axis=1, keepdims=True))
    return scores


def _pairs(boxes: Floats, scores: Floats) -> Candidates:
    """Every class of a box that scores at all is a detection of its own."""
    rows, classes = np.nonzero(scores >= _LEAST_SCORE)
    return Candidates(boxes[rows], scores[rows, classes], classes)
