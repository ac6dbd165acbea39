from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hasten.cli.optimize import optimize
from hasten.cli.single_step import SingleStep
from hasten.data import (
    METRICS,
    CustomMetric,
    Fidelity,
    Labels,
    Samples,
    Score,
    first_nonfinite,
    resolve_metric,
)
from hasten.data.labels import LABEL_KINDS, LabelKind
from hasten.data.metrics import Labelled
from hasten.errors import DataError, MissingExtraError, OptionError

LOGITS = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.0, 0.2, 0.7]], np.float32)
TOP1 = METRICS["top1"]
PLAIN = Samples({"x": np.zeros(3)})
LABELLED = Samples({"x": np.zeros(3)}, [1, 0, 2])
ONE_OF_EACH: dict[LabelKind, Labels] = {
    "classes": Labels.array("classes", np.array([1])),
    "several": Labels.array("several", np.array([[0, 1]])),
    "values": Labels.array("values", np.array([0.5])),
    "mask": Labels.array("mask", np.array([[[0, 2]]])),
    "boxes": Labels.of_boxes([[[0, 0, 1, 1]]], [[0]]),
    "texts": Labels.of_texts(["a"]),
}


# Top-1


def test_top1_is_the_share_of_labels_with_the_largest_score() -> None:
    score = TOP1.evaluate({"logits": LOGITS}, np.array([1, 0, 0]), None)
    assert score.value == pytest.approx(2 / 3)
    assert score.details == {"correct": 2, "samples": 3}


def test_top1_takes_outputs_with_axes_of_one() -> None:
    assert TOP1.evaluate({"logits": LOGITS[:, None]}, np.array([1, 0, 2]), None).value == 1


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (
            LOGITS,
            [1, 3, 0],
            "Expected labels from 0 to 2 for output 'logits', got label 3 - at sample 1",
        ),
        (LOGITS, [1, 0], "Expected one answer for each of 2 labels, got 3 - at output 'logits'"),
        (
            np.float32(1),
            [2],
            "Expected labels from 0 to 1 for output 'logits', got label 2 - at sample 0",
        ),
        (
            np.empty((2, 0)),
            [1, 0],
            "Expected an output with class scores, one row for each of 2 labels, got 'logits' is "
            "text, float64[0] - at metric top1 (say what an output is with --output "
            "NAME=KIND, or use another --metric)",
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
        TOP1.evaluate({"logits": np.asarray(logits)}, np.array(labels), None)
    assert str(caught.value) == message


def test_top1_needs_labels() -> None:
    with pytest.raises(DataError, match="Expected labels, got none - at metric top1"):
        TOP1.evaluate({"logits": LOGITS}, None, None)


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
    for name, metric in METRICS.items():
        kind = metric.rule.labels[0] if isinstance(metric, Labelled) else None
        samples = PLAIN if kind is None else Samples({"x": np.zeros(1)}, ONE_OF_EACH[kind])
        assert resolve_metric(name, samples) == metric
    assert resolve_metric("top3", LABELLED).name == "top3"
    assert resolve_metric("recall@17", LABELLED).name == "recall@17"


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_every_kind_of_label_has_a_metric_that_is_usual(kind: LabelKind) -> None:
    metric = resolve_metric(None, Samples({"x": np.zeros(1)}, ONE_OF_EACH[kind]))
    assert isinstance(metric, Labelled)
    assert kind in metric.rule.labels


def test_labels_of_another_kind_are_refused_with_the_metric_to_use() -> None:
    with pytest.raises(DataError) as caught:
        resolve_metric("map", LABELLED)
    assert str(caught.value) == (
        "Expected labels of boxes (boxes, each with its class) for metric map, got classes (one "
        "class, an integer from 0) - at data: labels (use --metric top1)"
    )


@pytest.mark.parametrize(
    ("metric", "package"), [("f1", "sklearn"), ("map", "pycocotools"), ("wer", "jiwer")]
)
def test_a_library_that_is_missing_is_named_with_its_command(
    metric: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = METRICS[metric]
    assert isinstance(rule, Labelled)
    samples = Samples({"x": np.zeros(1)}, ONE_OF_EACH[rule.rule.labels[0]])
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        resolve_metric(metric, samples)
    assert str(caught.value) == (
        "Expected the extra 'metrics', got no such package installed - "
        f"at --metric {metric} (run: pip install 'hasten[metrics]')"
    )


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
        (
            "top-1",
            "Expected top1, top5, f1, auc, map, map50, iou, cer, wer, mae, rmse, r2, recall@1, "
            "recall@5, fidelity or package.module:callable, got 'top-1' - at --metric "
            "(did you mean top1?)",
        ),
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


@pytest.mark.parametrize("verb", [optimize, SingleStep], ids=["optimize", "single step"])
def test_the_help_names_every_metric(verb: object) -> None:
    named = set(re.findall(r"[\w@]+", verb.__doc__ or ""))
    assert {re.sub(r"@\d+", "@K", name) for name in METRICS} <= named


def test_the_docs_have_a_row_for_every_metric() -> None:
    page = Path(__file__).parent.parent / "docs" / "metrics.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert set(METRICS) <= set(re.findall(r"`([\w@]+)`", " ".join(rows)))
