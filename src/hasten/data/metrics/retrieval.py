"""Recall@k: what is looked for is among the k best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers, Output
from hasten.data.labels import Labels
from hasten.data.meaning import Meaning, OutputKind
from hasten.data.metrics.choice import choose_output, require_count
from hasten.data.metrics.classes import class_axis, class_scores, guess_margin
from hasten.data.metrics.labelled import Chance, Reading, Rule
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = ["recall"]

_FEATURES: tuple[OutputKind, ...] = ("embedding",)
_ALSO: tuple[OutputKind, ...] = ("scores", "regression", "probabilities", "waveform")
#: Rows that are compared with all others at a time.
_PIECE = 1024


def _choose(
    answers: Answers, meanings: Mapping[str, Meaning], labels: Labels, metric: str
) -> Reading:
    if labels.kind == "several":
        return choose_output(
            answers,
            meanings,
            ("scores", "probabilities"),
            partial(_fits_items, items=labels.values.shape[-1]),
            also=("regression", "embedding", "waveform"),
            wanted=f"a score for each of {labels.values.shape[-1]} items",
            metric=metric,
        )
    reading = choose_output(
        answers,
        meanings,
        _FEATURES,
        _fits_row,
        also=_ALSO,
        wanted="an embedding: one row of features a sample",
        metric=metric,
    )
    return _paired(answers, meanings, reading)


def _paired(answers: Answers, meanings: Mapping[str, Meaning], reading: Reading) -> Reading:
    """Search the first embedding among a second of the same width, as two-tower models have."""
    first = answers[reading.outputs[0]]
    for name, other in answers.items():
        if name == first.name or meanings[name].kind != "embedding" or not other.per_sample:
            continue
        if other.values is not None and first.values is not None:
            sizes = [one.values[:1].size for one in (first, other) if one.values is not None]
            if sizes[0] == sizes[1]:
                note = f"'{first.name}' is searched among '{name}'"
                return replace(reading, outputs=(first.name, name), note=note)
    return reading


def _fits_row(output: Output, meaning: Meaning) -> tuple[bool, int | None]:
    del meaning
    if output.values is None or output.dtype.kind != "f" or not output.per_sample:
        return False, None
    return len([size for size in output.values.shape[1:] if size != 1]) == 1, None


def _fits_items(output: Output, meaning: Meaning, *, items: int) -> tuple[bool, int | None]:
    if output.values is None or output.dtype.kind not in "fiu" or not output.per_sample:
        return False, None
    axis = class_axis(output.values.shape[1:], (), meaning.class_axis)
    return axis is not None and output.values.shape[1:][axis] == items, axis


def _unit(output: Output) -> NDArray[np.float64]:
    rows = np.asarray(output.values, np.float64).reshape(len(output), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths == 0, 1.0, lengths))


def _score(answers: Answers, labels: Labels, reading: Reading, *, count: int) -> Score:
    """Share of samples with one of their class among the nearest, by cosine; of items, recall."""
    for name in reading.outputs:
        require_count(answers[name], len(labels))
    if labels.kind == "several":
        return Score(_recall_of_items(answers, labels, reading, count))
    hits = _hits(answers, labels, reading, count)
    asked = _askable(labels, reading)
    return Score(float(hits[asked].mean()), {"queries": float(asked.sum())})


def _askable(labels: Labels, reading: Reading) -> NDArray[np.bool_]:
    """Whether there is anything of its class to be found for each sample."""
    classes = np.asarray(labels.values)
    if len(reading.outputs) > 1:
        return np.ones(len(classes), bool)
    _, which, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    asked: NDArray[np.bool_] = sizes[which] > 1
    if not asked.any():
        raise DataError(
            expected="classes with two samples or more, one to find for the other",
            got="each sample of a class of its own",
            where="metric recall@k",
        )
    return asked


def _hits(answers: Answers, labels: Labels, reading: Reading, count: int) -> NDArray[np.bool_]:
    queries, gallery = _unit(answers[reading.outputs[0]]), _unit(answers[reading.outputs[-1]])
    classes = np.asarray(labels.values)
    alone = len(reading.outputs) == 1
    nearest = min(count, len(gallery) - alone)
    hits = np.zeros(len(queries), bool)
    for start in range(0, len(queries), _PIECE):
        rows = np.arange(start, min(start + _PIECE, len(queries)))
        nearness = queries[rows] @ gallery.T
        if alone:
            nearness[np.arange(len(rows)), rows] = -np.inf
        best = np.argsort(-nearness, axis=1, kind="stable")[:, :nearest]
        hits[rows] = (classes[best] == classes[rows, np.newaxis]).any(axis=1)
    return hits


def _recall_of_items(answers: Answers, labels: Labels, reading: Reading, count: int) -> float:
    scores = class_scores(answers[reading.outputs[0]], reading.axis)
    wanted = np.asarray(labels.values, bool)
    asked = wanted.any(axis=1)
    if not asked.any():
        raise DataError(
            expected="samples with an item to find", got="none", where="metric recall@k"
        )
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :count]
    found = np.take_along_axis(wanted, best, axis=1).sum(axis=1)
    return float((found[asked] / wanted[asked].sum(axis=1)).mean())


def _chance(answers: Answers, labels: Labels, reading: Reading, *, count: int) -> Chance:
    """Draw so many at random, without their replacement."""
    del answers
    if labels.kind == "several":
        level = min(1.0, count / labels.values.shape[-1])
        return Chance(level, "choosing items at random", guess_margin(level, len(labels)))
    classes = np.asarray(labels.values)
    _, which, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    alone = len(reading.outputs) == 1
    others, own = len(classes) - alone, sizes[which] - alone
    missed = np.ones(len(classes))
    for drawn in range(min(count, others)):
        missed *= np.clip((others - own - drawn) / (others - drawn), 0, 1)
    level = float(1 - missed[_askable(labels, reading)].mean())
    margin = guess_margin(level, len(labels))
    return Chance(level, "choosing neighbours at random", margin)


def recall(count: int) -> Rule:
    """Recall@k of a search by cosine, or of the items with the best scores."""
    return Rule(
        ("classes", "several"),
        _choose,
        partial(_score, count=count),
        partial(_chance, count=count),
    )
