"""Metrics with labels, asked of arrays by output name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hasten.data import METRICS, Labels, Samples, Score, resolve_metric
from hasten.data.answers import Answers
from hasten.data.meaning import OutputKind, find_meanings
from hasten.data.metrics import Labelled

RANDOM = np.random.default_rng(0)


def score(name: str, outputs: Mapping[str, Any], labels: Any) -> Score:
    metric = METRICS.get(name) or resolve_metric(name, Samples({"x": np.zeros(1)}, [0]))
    return metric.evaluate({key: np.asarray(one) for key, one in outputs.items()}, labels, None)


def bound(
    name: str,
    outputs: Mapping[str, Any],
    labels: Any,
    kinds: Mapping[str, OutputKind] | None = None,
) -> tuple[Labelled, Answers, Labels]:
    metric = METRICS[name]
    assert isinstance(metric, Labelled)
    answers = Answers.of({key: np.asarray(one) for key, one in outputs.items()})
    count = len(labels)
    truth = Samples({"x": np.zeros(count)}, labels).ground_truth
    assert truth is not None
    meanings = find_meanings(answers, wanted=kinds or {})
    return metric.bound(answers, meanings, truth), answers, truth
