"""The area under the ROC curve, of each class against the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers
from hasten.data.labels import Labels
from hasten.data.metrics.classes import choose_scores, judged, several, true_classes
from hasten.data.metrics.labelled import Chance, Reading, Rule, library
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = ["AUC"]

Floats = NDArray[np.float64]


def _auc_score(answers: Answers, labels: Labels, reading: Reading) -> Score:
    """Mean over classes of the area under each one's ROC curve, one class against the rest."""
    skl = library("sklearn.metrics", "auc")
    if labels.kind == "several":
        truth, scores = true_classes(labels), several(answers, labels, reading)
    else:
        raw, classes = judged(answers, labels, reading)
        is_scaled = raw.dtype.kind in "iu"  # shares of 1 already, in steps of 1/256
        scores = raw.astype(np.float64) if is_scaled else _shares(raw.astype(np.float64))
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


AUC = Rule(("classes", "several"), choose_scores, _auc_score, _auc_chance, "sklearn.metrics")
