"""Top-k: the share of labels whose class is among the best so many scores."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Answers
from hasten.data.labels import Labels
from hasten.data.metrics.classes import choose_scores, guess_margin, judged, one_class
from hasten.data.metrics.labelled import Chance, Reading, Rule
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = ["top"]


def _first_class(scores: NDArray[Any], truth: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Whether the true class is among the best so many; of equal scores the first come first."""
    if count == 1:
        return np.asarray(scores.argmax(axis=-1) == truth)
    own = np.take_along_axis(scores, truth[:, np.newaxis], -1)
    before = np.arange(scores.shape[-1]) < truth[:, np.newaxis]
    better = (scores > own) | ((scores == own) & before)
    return np.asarray(better.sum(axis=-1) < count)


def _top_score(answers: Answers, labels: Labels, reading: Reading, count: int) -> Score:
    scores, truth = judged(answers, labels, reading)
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
    scores, truth = judged(answers, labels, reading)
    shares = np.sort(np.bincount(truth) / max(1, len(truth)))[::-1]
    level = float(shares[:count].sum())
    by = "always answering the most common class" if count == 1 else "the most common classes"
    beside = one_class(scores.argmax(axis=-1), truth)
    if len(shares[shares > 0]) == 1:
        return Chance(beside=f"all {len(truth)} labels are of one class, which tells little")
    if level >= 1:
        return Chance(beside=beside)
    return Chance(level, by, guess_margin(level, len(truth)), beside)


def top(count: int) -> Rule:
    """Top-k: the share of labels whose class is among the best so many scores."""
    return Rule(
        ("classes", "mask"),
        choose_scores,
        partial(_top_score, count=count),
        partial(_top_chance, count=count),
    )
