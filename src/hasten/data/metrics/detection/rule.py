"""The metrics map and map50: how a detector is read is found on the reference, then kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers
from hasten.data.fidelity.boxes import overlaps
from hasten.data.labels import Labels
from hasten.data.meaning import Meaning
from hasten.data.metrics.choice import no_output, require_count
from hasten.data.metrics.detection.candidates import Source, box_starts, find_source, read_sample
from hasten.data.metrics.detection.layout import (
    BOX_FORMATS,
    Activation,
    Classes,
    Layout,
    corners,
    renumbered,
)
from hasten.data.metrics.detection.precision import Detections, average_precision
from hasten.data.metrics.detection.suppression import suppressed
from hasten.data.metrics.labelled import Chance, Reading, Rule
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = ["MAP", "MAP50"]

_BOX = 4
#: So many samples tell how boxes, scores and classes are written.
_FEW = 32
#: Coordinates up to here are shares of the picture: a box may reach a little out of it.
_SHARES = 2.0
_FOUND = 0.5
#: Boxes of a sample, the best first, that are held to labels to see how they are written.
_BEST = 100


class _Way(NamedTuple):
    """Which outputs hold detections, and how they are read."""

    source: Source
    layout: Layout


def _choose(
    answers: Answers, meanings: Mapping[str, Meaning], labels: Labels, metric: str
) -> Reading:
    source = find_source(answers, meanings)
    if source is None:
        wanted = "boxes: boxes_and_scores, detections, or boxes beside scores"
        raise no_output(answers, meanings, wanted, metric)
    for name in source.outputs:
        require_count(answers[name], len(labels))
    if not len(labels.columns["boxes"]):
        raise DataError(expected="labels with boxes", got="none", where=f"metric {metric}")
    few = np.arange(min(_FEW, len(labels)))
    way = _way(answers.select(few), labels.select(few), labels, source, metric)
    return Reading(source.outputs, source.boxes, layout=way, note=str(way.layout))


def _way(few: Answers, told: Labels, labels: Labels, source: Source, metric: str) -> _Way:
    """Return the reading that finds most: of the boxes first, then of their classes."""
    written: list[_Way] = []
    for one in _axes(few, source):
        first = replace(next(_score_ways(few, one, labels)), ids=labels.ids)
        try:
            scale = _scale(few, one, first, labels)
        except DataError:
            if written:  # the other axis holds no boxes, then
                continue
            raise
        formats = dict.fromkeys((one.boxes.box_format, *BOX_FORMATS))
        written += [_Way(one, replace(first, box_format=each, scale=scale)) for each in formats]
    source, boxes = max(written, key=lambda way: _found(few, told, way))
    readings = [
        _Way(source, replace(way, box_format=boxes.box_format, scale=boxes.scale, ids=labels.ids))
        for way in _score_ways(few, source, labels)
    ]
    if len(readings) == 1:
        return readings[0]
    return max(
        readings, key=lambda way: average_precision(_detections(few, way), told, metric).at_50
    )


def _axes(few: Answers, source: Source) -> list[Source]:
    """Return the source, and where else in its output boxes may stand."""
    values = few[source.boxes.output].values
    if source.form == "rows" and source.boxes.kind == "detections":
        return box_starts(few, source)
    if source.form != "joined" or values is None:
        return [source]
    rank = values.ndim - 1
    other = [at - rank for at, size in enumerate(values.shape[1:]) if size > _BOX]
    axes = dict.fromkeys((source.boxes.box_axis, *other))
    return [
        replace(source, boxes=msgspec.structs.replace(source.boxes, box_axis=at)) for at in axes
    ]


def _score_ways(few: Answers, source: Source, labels: Labels) -> Iterator[Layout]:
    """Yield what scores and class numbers can mean, the likeliest first."""
    objectness: list[bool] = [False]
    activations: list[Activation] = ["none"]
    if source.form == "joined":
        objectness = _objectness(few, source, labels)
    elif source.form == "apart":
        scores = np.concatenate([np.ravel(one) for one in few[source.scores].parts])
        if scores.size and (scores.min() < 0 or scores.max() > 1):
            activations = ["sigmoid", "softmax"]
    classes: list[Classes] = ["same", "after background"]
    if labels.ids and labels.ids != tuple(range(len(labels.ids))):
        classes += ["by id", "by id from 0"]
    for has_object, activation, numbering in itertools.product(objectness, activations, classes):
        yield Layout(objectness=has_object, activation=activation, classes=numbering)


def _objectness(few: Answers, source: Source, labels: Labels) -> list[bool]:
    """Whether the first score may be of any object: the number of classes tells, if known."""
    values = np.asarray(few[source.boxes.output].parts[0])
    columns = values.shape[source.boxes.box_axis]
    known = len(labels.names) or len(labels.ids)
    if known and columns in {_BOX + known, _BOX + 1 + known}:
        return [columns == _BOX + 1 + known]
    if columns <= _BOX + 1 + int(labels.columns["classes"].max(initial=0)):
        return [False]
    return [source.boxes.objectness, not source.boxes.objectness]


def _scale(few: Answers, source: Source, way: Layout, labels: Labels) -> tuple[float, float] | None:
    """Return (width, height) where coordinates are shares of the picture; None for pixels."""
    best = []
    for at in range(len(few.first)):
        one = read_sample(few, at, source, way)
        best.append(one.boxes[np.argsort(-one.scores)[:_BEST]])
    said = np.abs(np.concatenate([np.empty((0, _BOX)), *best]))
    told = float(labels.columns["boxes"].max())
    is_share = said.size > 0 and float(np.quantile(said, 0.99)) <= _SHARES
    if is_share == (told <= _SHARES):
        return None
    where = f"output '{source.boxes.output}'"
    if not is_share:
        raise DataError(
            expected="labelled boxes in pixels of the picture, as the model's are",
            got=f"labels up to {told:g}",
            where=where,
            hint="multiply them by width and height",
        )
    if labels.size is None:
        raise DataError(
            expected="the size of the picture, for a model whose boxes are shares of it",
            got="labelled boxes in pixels alone",
            where=where,
            hint="divide them by width and height",
        )
    height, width = labels.size
    return float(width), float(height)


def _found(few: Answers, told: Labels, way: _Way) -> float:
    """Share of labelled boxes that overlap with one of the best, whatever its class."""
    hits = total = 0
    for at, wanted in enumerate(told.each("boxes")):
        one = read_sample(few, at, way.source, way.layout)
        best = np.argsort(-one.scores, kind="stable")[: _BEST * 10]
        boxes = np.unique(corners(one.boxes[best], way.layout), axis=0)
        total += len(wanted)
        if len(wanted) and len(boxes):
            hits += int((overlaps(wanted, boxes).max(axis=1) >= _FOUND).sum())
    return hits / max(1, total)


def _detections(answers: Answers, way: _Way) -> list[Detections]:
    source, layout = way
    found = []
    for at in range(len(answers[source.boxes.output])):
        one = read_sample(answers, at, source, layout)
        boxes, classes = corners(one.boxes, layout), renumbered(one.classes, layout)
        known = classes >= 0
        boxes, scores, classes = boxes[known], one.scores[known], classes[known]
        if source.form != "rows":  # rows were chosen by the model itself
            kept = suppressed(boxes, scores, classes)
            boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
        found.append(Detections(boxes, scores, classes))
    return found


def _score(answers: Answers, labels: Labels, reading: Reading, *, metric: str) -> Score:
    way: _Way = reading.layout
    for name in reading.outputs:
        require_count(answers[name], len(labels))
    _require_classes(answers, labels, way)
    found = average_precision(_detections(answers, way), labels, metric)
    details = {"map": found.all, "map50": found.at_50, "map75": found.at_75}
    return Score(details[metric], details)


def _require_classes(answers: Answers, labels: Labels, way: _Way) -> None:
    """Raise DataError for a labelled class that the model has no score for."""
    source, layout = way
    if source.form == "rows" or layout.classes in {"by id", "by id from 0"}:
        return
    name = source.boxes.output if source.form == "joined" else source.scores
    scores: NDArray[np.generic] = np.asarray(answers[name].parts[0])
    if source.form == "joined":
        columns = scores.shape[source.boxes.box_axis] - _BOX - layout.objectness
    else:
        boxes = np.asarray(answers[source.boxes.output].parts[0]).size // _BOX
        columns = scores.size // max(1, boxes)
    columns -= layout.classes == "after background"
    most = int(labels.columns["classes"].max(initial=0))
    if most >= columns:
        raise DataError(
            expected=f"labels of classes 0 to {columns - 1} for output '{name}'",
            got=f"class {most}",
            where="labels",
        )


def _chance(answers: Answers, labels: Labels, reading: Reading, *, metric: str) -> Chance:
    del answers, labels, reading, metric
    return Chance(0.0, "finding nothing", 0.02)


def _rule(metric: str) -> Rule:
    score, chance = partial(_score, metric=metric), partial(_chance, metric=metric)
    return Rule(("boxes",), _choose, score, chance, "pycocotools.coco")


MAP, MAP50 = _rule("map"), _rule("map50")
