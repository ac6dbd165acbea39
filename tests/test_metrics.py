from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hasten.data import (
    METRICS,
    CustomMetric,
    Fidelity,
    Samples,
    Score,
    Top1,
    first_nonfinite,
    resolve_metric,
)
from hasten.errors import DataError, OptionError

LOGITS = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.0, 0.2, 0.7]], np.float32)
PLAIN = Samples({"x": np.zeros(3)})
LABELLED = Samples({"x": np.zeros(3)}, [1, 0, 2])


# Top-1


def test_top1_is_the_share_of_labels_with_the_largest_score() -> None:
    score = Top1().evaluate({"logits": LOGITS}, np.array([1, 0, 0]), None)
    assert score.value == pytest.approx(2 / 3)
    assert score.details == {"correct": 2, "samples": 3}


def test_top1_takes_outputs_with_axes_of_one() -> None:
    assert Top1().evaluate({"logits": LOGITS[:, None]}, np.array([1, 0, 2]), None).value == 1


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (
            LOGITS,
            [1, 3, 0],
            "Expected labels from 0 to 2 for output 'logits', got label 3 - at sample 1",
        ),
        (
            LOGITS,
            [1, 0],
            "Expected one row of class scores for each of 2 labels, got shape [3, 3] - "
            "at output 'logits'",
        ),
        (
            np.float32(1),
            [1],
            "Expected labels from 0 to 0 for output 'logits', got label 1 - at sample 0",
        ),
        (
            np.empty((2, 0)),
            [1, 0],
            "Expected one row of class scores for each of 2 labels, got shape [2, 0] - "
            "at output 'logits'",
        ),
        (
            LOGITS * np.nan,
            [1, 0, 2],
            "Expected finite outputs, got output 'logits' sample 0 holds NaN - at metric top1",
        ),
    ],
)
def test_top1_says_why_it_cannot_judge(logits: np.ndarray, labels: list[int], message: str) -> None:
    with pytest.raises(DataError) as caught:
        Top1().evaluate({"logits": np.asarray(logits)}, np.array(labels), None)
    assert str(caught.value) == message


def test_top1_needs_labels() -> None:
    with pytest.raises(DataError, match="Expected labels, got none - at metric top1"):
        Top1().evaluate({"logits": LOGITS}, None, None)


def test_a_score_is_valid_json() -> None:
    score = Fidelity().evaluate({"y": LOGITS}, None, {"y": LOGITS})
    assert msgspec.json.decode(msgspec.json.encode(score), type=Score) == score
    assert b"null" not in msgspec.json.encode(score)


# The user's own


def test_a_function_of_the_user_is_a_metric() -> None:
    metric = CustomMetric("mine:rule", lambda outputs, labels: outputs["y"].mean() + labels.sum())
    assert metric.evaluate({"y": LOGITS[:1, :1] * 0}, np.array([2]), None) == Score(2.0)


@pytest.mark.parametrize(
    ("returned", "got"),
    [(math.nan, "nan"), (math.inf, "inf"), ("high", "str"), (None, "NoneType")],
)
def test_a_function_that_returns_no_finite_number_is_an_error(returned: object, got: str) -> None:
    with pytest.raises(DataError) as caught:
        CustomMetric("mine:rule", lambda outputs, labels: returned).evaluate({}, None, None)
    assert str(caught.value) == f"Expected a finite number, got {got} - at mine:rule"


def test_a_function_that_raises_is_an_error_of_one_line() -> None:
    def rule(outputs: object, labels: object) -> float:
        raise KeyError("a\nb")

    with pytest.raises(DataError) as caught:
        CustomMetric("mine:rule", rule).evaluate({}, None, None)
    assert str(caught.value) == (
        r"Expected a metric that returns a number, got KeyError: 'a\nb' - at mine:rule"
    )


# Choosing


def test_labels_decide_the_metric_where_none_is_named() -> None:
    assert resolve_metric(None, LABELLED).name == "top1"
    assert resolve_metric(None, PLAIN).name == "fidelity"


def test_every_metric_is_found_by_its_name() -> None:
    assert {name: resolve_metric(name, LABELLED) for name in METRICS} == METRICS


def test_a_module_and_callable_is_a_metric() -> None:
    assert resolve_metric("math:fsum", PLAIN) == CustomMetric("math:fsum", math.fsum)


def test_top1_without_labels_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        resolve_metric("top1", PLAIN)
    assert str(caught.value) == (
        "Expected labels for metric top1, got none - at data (use --metric fidelity)"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("top5", "Expected top1, fidelity or package.module:callable, got 'top5' - at --metric"),
        ("math:pi", "Expected a callable, got float - at --metric math:pi"),
        ("math:no", "Expected 'no' in module 'math', got no such name - at --metric"),
    ],
)
def test_a_name_that_is_no_metric_says_why(name: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolve_metric(name, PLAIN)
    assert str(caught.value) == message


# Outputs that are not finite


def test_finite_outputs_and_integers_are_fine() -> None:
    assert first_nonfinite({"y": LOGITS, "n": np.arange(3)}) is None


def test_the_first_output_and_sample_that_is_not_finite_is_named(tmp_path: Path) -> None:
    logits = np.zeros((5, 2), np.float32)
    logits[3, 1] = np.nan
    logits[4, 0] = np.inf
    found = first_nonfinite({"fine": LOGITS, "logits": logits})
    assert found == "output 'logits' sample 3 holds NaN"
