"""Values: mean absolute error, root of the mean squared error, coefficient of determination."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers, Output
from hasten.data.labels import LabelKind, Labels
from hasten.data.meaning import Meaning, OutputKind
from hasten.data.metrics.choice import choose_output, require_count
from hasten.data.metrics.labelled import Chance, Reading, Rule, library
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = ["MAE", "R2", "RMSE"]

Floats = NDArray[np.float64]

_KINDS: tuple[OutputKind, ...] = ("regression", "waveform")
_ALSO: tuple[OutputKind, ...] = (
    *("scores", "probabilities", "embedding", "mask", "sequence"),
    *("boxes", "boxes_and_scores"),
)


def _choose(
    answers: Answers, meanings: Mapping[str, Meaning], labels: Labels, metric: str
) -> Reading:
    item = list(labels.values.shape[1:])
    return choose_output(
        answers,
        meanings,
        _KINDS,
        partial(_fits, item=[size for size in item if size != 1]),
        also=_ALSO,
        wanted=f"values of shape {item} a sample, as the labels have"
        if item
        else "one value a sample",
        metric=metric,
    )


def _fits(output: Output, meaning: Meaning, *, item: list[int]) -> tuple[bool, int | None]:
    del meaning
    if output.values is None or output.dtype.kind != "f" or not output.per_sample:
        return False, None
    return [size for size in output.values.shape[1:] if size != 1] == item, None


def _pairs(answers: Answers, labels: Labels, reading: Reading) -> tuple[Floats, Floats]:
    """Return (true, answered), [n, values]."""
    output = answers[reading.outputs[0]]
    require_count(output, len(labels))
    count = len(labels)
    said = np.asarray(output.values, np.float64).reshape(count, -1)
    if not np.isfinite(said).all():
        sample = int(np.argmin(np.isfinite(said).all(axis=1)))
        got = f"output '{output.name}' sample {sample} holds infinity"
        raise DataError(expected="finite outputs", got=got, where="judging values")
    return np.asarray(labels.values, np.float64).reshape(count, -1), said


def _mae(truth: Floats, said: Floats) -> float:
    """Return the negative, for higher is better."""
    return -float(library("sklearn.metrics", "mae").mean_absolute_error(truth, said))


def _rmse(truth: Floats, said: Floats) -> float:
    """Return the negative, for higher is better; of several values, the root of the mean of all."""
    skl = library("sklearn.metrics", "rmse")
    return -math.sqrt(skl.mean_squared_error(truth, said))


def _r2(truth: Floats, said: Floats) -> float:
    """Mean over values of 1 - residual / total sum of squares."""
    if len(truth) < 2:  # noqa: PLR2004 - of one, nothing varies
        raise DataError(expected="two samples or more", got="one", where="metric r2")
    varies = np.ptp(truth, axis=0) > 0
    if not varies.any():
        raise DataError(
            expected="labels that vary over samples", got="equal ones", where="metric r2"
        )
    skl = library("sklearn.metrics", "r2")
    return float(skl.r2_score(truth[:, varies], said[:, varies]))


def _score(answers: Answers, labels: Labels, reading: Reading, *, of: Any) -> Score:
    return Score(of(*_pairs(answers, labels, reading)))


def _chance(answers: Answers, labels: Labels, reading: Reading, *, of: Any) -> Chance:
    truth, said = _pairs(answers, labels, reading)
    beside = ""
    if len(said) > 1 and not np.ptp(said, axis=0).any() and np.ptp(truth, axis=0).any():
        beside = "the reference answers the same for every sample"
    if len(truth) < 2 or not np.ptp(truth, axis=0).any():  # noqa: PLR2004
        return Chance(beside=beside)
    middle = np.median(truth, axis=0) if of is _mae else truth.mean(axis=0)
    level = of(truth, np.broadcast_to(middle, truth.shape))
    by = f"always answering the {'median' if of is _mae else 'mean'} of the labels"
    return Chance(level, by, 0.05 * abs(level) if of is not _r2 else 0.05, beside)


def _rule(of: Any) -> Rule:
    kinds: tuple[LabelKind, ...] = ("values", "classes", "several", "mask")
    return Rule(kinds, _choose, partial(_score, of=of), partial(_chance, of=of), "sklearn.metrics")


MAE, RMSE, R2 = _rule(_mae), _rule(_rmse), _rule(_r2)
