"""F1: macro over classes, of two classes that of class 1, or of each class that stands alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers
from hasten.data.labels import Labels
from hasten.data.metrics.classes import (
    choose_scores,
    guess_margin,
    judged,
    one_class,
    several,
    true_classes,
)
from hasten.data.metrics.labelled import Chance, Reading, Rule, library
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = ["F1"]


def _decisions(
    answers: Answers, labels: Labels, reading: Reading
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return (true, predicted, classes): classes, [n], or 0 and 1 for each class, [n, classes]."""
    if labels.kind == "classes":
        scores, truth = judged(answers, labels, reading)
        return truth, scores.argmax(axis=-1), scores.shape[-1]
    scores = several(answers, labels, reading)
    predicted = (scores >= reading.layout).astype(np.int64)
    return true_classes(labels), predicted, scores.shape[-1]


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


F1 = Rule(("classes", "several"), choose_scores, _f1_score, _f1_chance, "sklearn.metrics")
