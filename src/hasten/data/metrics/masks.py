"""Masks: mean IoU, the overlap of the places of each class, over all samples together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers, Output
from hasten.data.labels import Labels
from hasten.data.labels.labels import IGNORED
from hasten.data.meaning import Meaning, OutputKind
from hasten.data.metrics.choice import choose_output, require_count
from hasten.data.metrics.classes import class_axis
from hasten.data.metrics.enlarge import enlarged
from hasten.data.metrics.labelled import Chance, Reading, Rule
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = ["IOU"]

_KINDS: tuple[OutputKind, ...] = ("mask",)
_ALSO: tuple[OutputKind, ...] = ("scores", "probabilities", "regression", "text", "sequence")
Classes = NDArray[np.int64]


def _choose(
    answers: Answers, meanings: Mapping[str, Meaning], labels: Labels, metric: str
) -> Reading:
    places = labels.values.shape[1:]
    reading = choose_output(
        answers,
        meanings,
        _KINDS,
        partial(_fits, labels=labels),
        also=_ALSO,
        wanted=f"a class for each of {list(places)} places, the size of the label masks",
        metric=metric,
    )
    output = answers[reading.outputs[0]]
    values = np.asarray(output.values)
    half = 0.5 if values.size and values.min() >= 0 and values.max() <= 1 else 0.0
    factor = _factor(_plane(values.shape[1:], reading.axis), places) or 1
    note = f"its scores are enlarged {factor} times to the size of the masks" if factor > 1 else ""
    return replace(reading, layout=(half, factor), note=note)


def _fits(output: Output, meaning: Meaning, *, labels: Labels) -> tuple[bool, int | None]:
    """Whether an output has scores, a probability or a class for each place of the labels."""
    values, places = output.values, labels.values.shape[1:]
    if values is None or values.dtype.kind not in "fiub" or not output.per_sample:
        return False, None
    item = values.shape[1:]
    if [size for size in item if size != 1] == [size for size in places if size != 1]:
        return True, None
    axis = class_axis(item, places, meaning.class_axis)
    if axis is not None:
        return values.dtype.kind == "f" or values.dtype.name in {"int8", "uint8"}, axis
    return _coarse(item, meaning, labels)


def _coarse(item: tuple[int, ...], meaning: Meaning, labels: Labels) -> tuple[bool, int | None]:
    """Whether it is a whole number of times smaller than masks of the model's picture."""
    if labels.size is None or tuple(labels.values.shape[1:]) != tuple(labels.size):
        return False, None
    axis = meaning.class_axis
    return _factor(_plane(item, axis), labels.values.shape[1:]) is not None, axis


def _plane(item: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    kept = [size for at, size in enumerate(item) if axis is None or at != axis + len(item)]
    return tuple(kept if axis is not None else [size for size in kept if size != 1])


def _factor(plane: tuple[int, ...], places: tuple[int, ...]) -> int | None:
    """Return how many times larger the labels are, along both axes alike."""
    if len(plane) != len(places) or 0 in plane:
        return None
    factors = {large / small for large, small in zip(places, plane, strict=True)}
    factor = factors.pop()
    return int(factor) if not factors and factor == int(factor) and factor >= 1 else None


def _predicted(output: Output, at: int, reading: Reading, places: tuple[int, ...]) -> Classes:
    """Return the class of each place of one sample."""
    half, factor = reading.layout
    values = np.asarray(output.parts[at])
    if reading.axis is not None:
        scores = np.moveaxis(values, reading.axis, 0)
        scores = scores.reshape(scores.shape[0], *_plane(values.shape, reading.axis))
        if factor > 1:
            scores = enlarged(scores, factor)
        return np.asarray(scores.argmax(axis=0).reshape(places))
    if values.dtype.kind == "f":
        plane = values.reshape(1, *_plane(values.shape, None))
        plane = enlarged(plane, factor) if factor > 1 else plane
        return np.asarray(plane >= half, np.int64).reshape(places)
    whole = values.reshape(_plane(values.shape, None)).astype(np.int64)
    for axis in range(whole.ndim if factor > 1 else 0):
        whole = whole.repeat(factor, axis=axis)
    return whole.reshape(places)


def _counts(answers: Answers, labels: Labels, reading: Reading) -> tuple[Classes, Classes]:
    """Return how many places each class has by the labels, [c], and the confusion, [c, c + 1].

    The last column is of predictions that no label has.
    """
    output = answers[reading.outputs[0]]
    require_count(output, len(labels))
    truth, places = labels.values, labels.values.shape[1:]
    known = _known_classes(truth)
    classes = len(known)
    if reading.axis is not None:
        _require_classes(known, output, np.asarray(output.parts[0]).shape[reading.axis])
    place_of = np.full(int(known.max()) + 1, classes)
    place_of[known] = np.arange(classes)
    confusion = np.zeros((classes, classes + 1), np.int64)
    for at, wanted in enumerate(truth):
        judged = (wanted >= 0) & (wanted != IGNORED)
        said = _predicted(output, at, reading, places)[judged]
        row = place_of[wanted[judged]]
        inside = (said >= 0) & (said < len(place_of))
        column = np.where(inside, place_of[np.where(inside, said, 0)], classes)
        pairs = np.bincount(row * (classes + 1) + column, minlength=classes * (classes + 1))
        confusion += pairs.reshape(classes, classes + 1)
    return known, confusion


def _known_classes(truth: NDArray[np.generic]) -> Classes:
    every = np.asarray(np.unique(truth), np.int64)
    found: Classes = every[(every >= 0) & (every != IGNORED)]
    if not len(found):
        raise DataError(
            expected="masks with a class in some place",
            got=f"only {IGNORED} and negative ones, which are not judged",
            where="metric iou",
        )
    return found


def _require_classes(known: Classes, output: Output, count: int) -> None:
    if known.max() >= count:
        raise DataError(
            expected=f"masks of classes 0 to {count - 1} for output '{output.name}'",
            got=f"class {known.max()}",
            where="metric iou",
            hint=f"{IGNORED} and negative ones are not judged",
        )


def _overlaps(confusion: Classes) -> NDArray[np.float64]:
    shared = np.diagonal(confusion)
    union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - shared
    return np.asarray(shared / np.maximum(union, 1))


def _score(answers: Answers, labels: Labels, reading: Reading) -> Score:
    """Mean over the classes that labels have of intersection over union."""
    known, confusion = _counts(answers, labels, reading)
    each = _overlaps(confusion)
    details = {f"iou_of_class_{known[at]}": float(each[at]) for at in range(min(len(known), 32))}
    return Score(float(each.mean()), details)


def _chance(answers: Answers, labels: Labels, reading: Reading) -> Chance:
    known, confusion = _counts(answers, labels, reading)
    shares = confusion.sum(axis=1) / max(1, int(confusion.sum()))
    common = int(shares.argmax())
    level = float(shares[common]) / len(known)
    said = np.flatnonzero(confusion.sum(axis=0))
    beside = ""
    if len(said) == 1 and len(known) > 1:
        which = "a class that no label has" if said[0] == len(known) else f"class {known[said[0]]}"
        beside = f"the reference predicts {which} in every place"
    if len(known) == 1:
        return Chance(beside=f"all places of the masks are of class {known[0]}")
    return Chance(level, f"class {known[common]} in every place", 0.02, beside)


IOU = Rule(("mask",), _choose, _score, _chance)
