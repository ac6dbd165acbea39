"""Classes: top-k, F1 and the area under the ROC curve, from scores along the axis of classes."""

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
from hasten.data.metrics.labelled import Chance, Reading, Rule, library
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = [
    "AUC",
    "F1",
    "class_axis",
    "class_scores",
    "guess_margin",
    "one_class",
    "require_known",
    "top",
    "true_classes",
]

Floats = NDArray[np.float64]

_KINDS: tuple[OutputKind, ...] = ("scores", "probabilities")
#: Kinds with class scores for places: steps, or pixels.
_OF_PLACES: tuple[OutputKind, ...] = ("sequence", "mask")
_ALSO: tuple[OutputKind, ...] = (*_OF_PLACES, "regression", "embedding", "waveform")
#: What stands for one half in an output of 8 bits: a sigmoid's scale is 1/256 there.
_HALF_OF_BYTES = {"uint8": 128.0, "int8": 0.0}


def _choose(
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


def _judged(answers: Answers, labels: Labels, reading: Reading) -> tuple[NDArray[Any], Any]:
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


def _first_class(scores: NDArray[Any], truth: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Whether the true class is among the best so many; of equal scores the first come first."""
    if count == 1:
        return np.asarray(scores.argmax(axis=-1) == truth)
    own = np.take_along_axis(scores, truth[:, np.newaxis], -1)
    before = np.arange(scores.shape[-1]) < truth[:, np.newaxis]
    better = (scores > own) | ((scores == own) & before)
    return np.asarray(better.sum(axis=-1) < count)


def _top_score(answers: Answers, labels: Labels, reading: Reading, count: int) -> Score:
    scores, truth = _judged(answers, labels, reading)
    if count >= scores.shape[-1]:
        raise DataError(
            expected=f"fewer than the {scores.shape[-1]} classes of output '{reading.outputs[0]}'",
            got=f"top{count}",
            where="--metric",
        )
    correct = float(_first_class(scores, truth, count).sum())
    details = {"correct": correct, "samples": float(len(truth))}
    return Score(correct / max(1, len(truth)), details)


def _top_chance(answers: Answers, labels: Labels, reading: Reading, count: int) -> Chance:
    scores, truth = _judged(answers, labels, reading)
    shares = np.sort(np.bincount(truth) / max(1, len(truth)))[::-1]
    level = float(shares[:count].sum())
    by = "always answering the most common class" if count == 1 else "the most common classes"
    beside = one_class(scores.argmax(axis=-1), truth)
    if len(shares[shares > 0]) == 1:
        return Chance(beside=f"all {len(truth)} labels are of one class, which tells little")
    if level >= 1:
        return Chance(beside=beside)
    return Chance(level, by, guess_margin(level, len(truth)), beside)


def guess_margin(level: float, count: int) -> float:
    """Two standard errors of a guess that is right so often, but never most of the way to 1."""
    return min(2 * math.sqrt(level * (1 - level) / max(1, count)), (1 - level) / 4)


def one_class(predicted: NDArray[Any], truth: NDArray[Any]) -> str:
    """Say that all predictions are of one class where labels are not."""
    if len(predicted) < 2 or len(np.unique(predicted)) > 1 or len(np.unique(truth)) == 1:  # noqa: PLR2004
        return ""
    return f"all {len(predicted)} predictions of the reference are class {predicted[0]}"


def top(count: int) -> Rule:
    """Top-k: the share of labels whose class is among the best so many scores."""
    return Rule(
        ("classes", "mask"),
        _choose,
        partial(_top_score, count=count),
        partial(_top_chance, count=count),
    )


def _decisions(
    answers: Answers, labels: Labels, reading: Reading
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return (true, predicted, classes): classes, [n], or 0 and 1 for each class, [n, classes]."""
    if labels.kind == "classes":
        scores, truth = _judged(answers, labels, reading)
        return truth, scores.argmax(axis=-1), scores.shape[-1]
    scores = _several(answers, labels, reading)
    predicted = (scores >= reading.layout).astype(np.int64)
    return true_classes(labels), predicted, scores.shape[-1]


def _several(answers: Answers, labels: Labels, reading: Reading) -> NDArray[Any]:
    output = answers[reading.outputs[0]]
    require_count(output, len(labels))
    return class_scores(output, reading.axis).astype(np.float64)


def _f1_score(answers: Answers, labels: Labels, reading: Reading) -> Score:
    """Macro over the classes that labels have; of two classes, that of class 1 (binary)."""
    return Score(_f1(*_decisions(answers, labels, reading), labels.kind == "several"))


def _f1(truth: NDArray[Any], predicted: NDArray[Any], classes: int, is_several: bool) -> float:
    skl = library("sklearn.metrics", "f1")
    if is_several:
        present = np.flatnonzero(truth.any(axis=0))
        _require_positive(len(present), "f1")
        truth, predicted = truth[:, present], predicted[:, present]
        return float(skl.f1_score(truth, predicted, average="macro", zero_division=0))
    if classes == 2:  # noqa: PLR2004 - yes and no
        _require_positive(int((truth == 1).sum()), "f1")
        return float(skl.f1_score(truth, predicted, pos_label=1, zero_division=0))
    present = np.unique(truth)
    return float(skl.f1_score(truth, predicted, labels=present, average="macro", zero_division=0))


def _require_positive(count: int, metric: str) -> None:
    if not count:
        raise DataError(
            expected="samples with a class for which the label is 1",
            got="none",
            where=f"metric {metric}",
        )


def _f1_chance(answers: Answers, labels: Labels, reading: Reading) -> Chance:
    truth, predicted, classes = _decisions(answers, labels, reading)
    if labels.kind == "several":
        level = _f1(truth, np.ones_like(truth), classes, is_several=True)
        return Chance(level, "answering yes to every class", 0.02)
    common = 1 if classes == 2 else int(np.bincount(truth).argmax())  # noqa: PLR2004
    level = _f1(truth, np.full_like(truth, common), classes, is_several=False)
    by = f"always answering class {common}"
    guessed = 1 / len(np.unique(truth))
    if classes > 2 and guessed > level:  # noqa: PLR2004 - each class as often as it occurs
        level, by = guessed, "guessing"
    margin = guess_margin(level, len(truth))
    return Chance(level, by, margin, one_class(predicted, truth))


def _auc_score(answers: Answers, labels: Labels, reading: Reading) -> Score:
    """Mean over classes of the area under each one's ROC curve, one class against the rest."""
    skl = library("sklearn.metrics", "auc")
    if labels.kind == "several":
        truth, scores = true_classes(labels), _several(answers, labels, reading)
    else:
        raw, classes = _judged(answers, labels, reading)
        scores = _shares(raw.astype(np.float64))
        truth = (classes[:, np.newaxis] == np.arange(scores.shape[-1])).astype(np.int64)
        if scores.shape[-1] == 2:  # noqa: PLR2004 - one curve is the other's mirror
            truth, scores = truth[:, 1:], scores[:, 1:]
    told = [at for at in range(truth.shape[1]) if 0 < truth[:, at].sum() < len(truth)]
    if not told:
        raise DataError(
            expected="labels of two classes or more", got="one class", where="metric auc"
        )
    areas = [float(skl.roc_auc_score(truth[:, at], scores[:, at])) for at in told]
    return Score(float(np.mean(areas)), {"worst_class": min(areas)})


def _shares(scores: Floats) -> Floats:
    """Return scores as shares of 1: of two classes their order is that of the difference."""
    if scores.min() >= 0 and np.allclose(scores.sum(axis=-1), 1, atol=1e-2):
        return scores
    if scores.shape[-1] == 2:  # noqa: PLR2004 - the difference does not saturate as exponents do
        apart = scores[:, 1:] - scores[:, :1]
        return np.concatenate([-apart, apart], axis=-1)
    parts = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(parts / parts.sum(axis=-1, keepdims=True))


def _auc_chance(answers: Answers, labels: Labels, reading: Reading) -> Chance:
    del answers, reading
    truth = true_classes(labels)
    rows = truth.size if labels.kind == "several" else len(truth)
    return Chance(0.5, "guessing", min(0.1, 0.6 / max(1, rows) ** 0.5))


F1 = Rule(("classes", "several"), _choose, _f1_score, _f1_chance, "sklearn.metrics")
AUC = Rule(("classes", "several"), _choose, _auc_score, _auc_chance, "sklearn.metrics")
