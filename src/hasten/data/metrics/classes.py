"""Class scores: which output has them, along which axis, and what the labels say of each row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers, Output
from hasten.data.labels import Labels
from hasten.data.meaning import Meaning, OutputKind
from hasten.data.metrics.choice import choose_output, require_count
from hasten.data.metrics.labelled import Reading
from hasten.errors import DataError

__all__ = [
    "choose_scores",
    "class_axis",
    "class_scores",
    "guess_margin",
    "judged",
    "one_class",
    "require_known",
    "several",
    "true_classes",
]

_KINDS: tuple[OutputKind, ...] = ("scores", "probabilities")
#: Kinds with class scores for places: steps, or pixels.
_OF_PLACES: tuple[OutputKind, ...] = ("sequence", "mask")
_ALSO: tuple[OutputKind, ...] = (*_OF_PLACES, "regression", "embedding", "waveform")
#: What stands for one half in an output of 8 bits: a sigmoid's scale is 1/256 there.
_HALF_OF_BYTES = {"uint8": 128.0, "int8": 0.0}


def choose_scores(
    answers: Answers, meanings: Mapping[str, Meaning], labels: Labels, metric: str
) -> Reading:
    """Choose the output of class scores: one row a sample, or for each place that has a label."""
    most = 1 + int(labels.values.max(initial=0)) if labels.kind == "classes" else 0
    wanted = {
        "several": f"a score for each of {labels.values.shape[-1]} classes",
        "mask": f"class scores for each of {list(labels.values.shape[1:])} places",
    }.get(labels.kind, f"class scores, one row for each of {len(labels)} labels")

    def choose(least: int) -> Reading:
        fit = partial(_fits, labels=labels, least=least)
        kinds = (*_OF_PLACES, *_KINDS) if labels.kind == "mask" else _KINDS
        also = [kind for kind in _ALSO if kind not in kinds]
        return choose_output(answers, meanings, kinds, fit, also=also, wanted=wanted, metric=metric)

    try:  # enough classes for the labels, if there is such an output
        reading = choose(most)
    except DataError:
        reading = choose(0)
    return replace(reading, layout=_half(answers[reading.outputs[0]], reading.meaning))


def _half(output: Output, meaning: Meaning) -> float:
    """Return the value from which a class that stands alone is said to be there."""
    if output.dtype.name in _HALF_OF_BYTES:
        return _HALF_OF_BYTES[output.dtype.name]
    values = np.asarray(output.values)
    within_one = values.size > 0 and values.min() >= 0 and values.max() <= 1
    is_share = meaning.kind == "probabilities" or bool(within_one)
    return 0.5 if is_share else 0.0


def _fits(
    output: Output, meaning: Meaning, *, labels: Labels, least: int
) -> tuple[bool, int | None]:
    values = output.values
    if values is None or values.dtype.kind not in "fiu" or not output.per_sample:
        return False, None
    if values[:1].size == 1:  # one score of one class
        return labels.kind == "classes" and least <= 2, None  # noqa: PLR2004 - yes and no
    places = labels.values.shape[1:] if labels.kind == "mask" else ()
    axis = class_axis(values.shape[1:], places, meaning.class_axis)
    if axis is None:
        return False, None
    classes = values.shape[1:][axis]
    wanted = labels.values.shape[-1] if labels.kind == "several" else None
    return classes >= max(2, least) and wanted in {None, classes}, axis


def class_axis(item: Sequence[int], places: Sequence[int], preferred: int | None) -> int | None:
    """Return the axis, from the end, without which an item has these places; axes of one aside.

    >>> class_axis([21, 8, 8], [8, 8], None), class_axis([1, 10], [], None)
    (-3, -1)
    """
    rank = len(item)
    axes: list[int] = [axis for axis in (preferred, *range(-1, -rank - 1, -1)) if axis is not None]
    for axis in axes:
        rest = [size for at, size in enumerate(item) if at != axis + rank and size != 1]
        if rest == [size for size in places if size != 1] and item[axis] > 1:
            return axis
    return None


def class_scores(
    output: Output, axis: int | None, places: Sequence[int] = (), half: float = 0.0
) -> NDArray[Any]:
    """Return the scores, [n, places..., classes]; one score of one class becomes two."""
    values = np.asarray(output.values)
    if axis is not None:
        return np.moveaxis(values, axis, -1).reshape(len(values), *places, values.shape[axis])
    above = np.nextafter(values.reshape(len(values), *places).astype(np.float64) - half, np.inf)
    return np.stack([np.zeros_like(above), above], axis=-1)


def true_classes(labels: Labels) -> NDArray[np.int64]:
    """Return the class of each sample, or of each place."""
    return np.asarray(labels.values, np.int64)


def require_known(classes: NDArray[np.int64], count: int, output: str) -> None:
    """Raise DataError for the first label that is no class of the output."""
    wrong = ((classes < 0) | (classes >= count)).reshape(len(classes), -1)
    if wrong.any():
        sample = int(np.argmax(wrong.any(axis=1)))
        label = classes[sample].reshape(-1)[int(np.argmax(wrong[sample]))]
        raise DataError(
            expected=f"labels from 0 to {count - 1} for output '{output}'",
            got=f"label {label}",
            where=f"sample {sample}",
        )


def judged(answers: Answers, labels: Labels, reading: Reading) -> tuple[NDArray[Any], Any]:
    """Return scores, [rows, classes], and the class of each row, of places that have one."""
    output = answers[reading.outputs[0]]
    require_count(output, len(labels))
    truth = true_classes(labels)
    scores = class_scores(output, reading.axis, truth.shape[1:], reading.layout)
    known = np.ones(truth.shape, bool)
    if labels.kind == "mask":
        known = truth >= 0
    require_known(np.where(known, truth, 0), scores.shape[-1], output.name)
    if known.all():
        return scores.reshape(-1, scores.shape[-1]), truth.reshape(-1)
    return scores[known], truth[known]


def several(answers: Answers, labels: Labels, reading: Reading) -> NDArray[Any]:
    """Return the score of each class of each sample, [n, classes]."""
    output = answers[reading.outputs[0]]
    require_count(output, len(labels))
    return class_scores(output, reading.axis).astype(np.float64)


def guess_margin(level: float, count: int) -> float:
    """Two standard errors of a guess that is right so often, but never most of the way to 1."""
    return min(2 * math.sqrt(level * (1 - level) / max(1, count)), (1 - level) / 4)


def one_class(predicted: NDArray[Any], truth: NDArray[Any]) -> str:
    """Say that all predictions are of one class where labels are not."""
    if len(predicted) < 2 or len(np.unique(predicted)) > 1 or len(np.unique(truth)) == 1:  # noqa: PLR2004
        return ""
    return f"all {len(predicted)} predictions of the reference are class {predicted[0]}"
