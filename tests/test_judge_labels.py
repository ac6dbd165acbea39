"""The judge with labels: what is read is settled by the reference, and what is doubtful is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from hasten.compress import Context, WeightInt8
from hasten.data import Samples, resolve_metric
from hasten.errors import DataError
from hasten.graph import Model, model_from_proto
from hasten.measure.clock import Deadline
from hasten.runtimes import Execution
from hasten.tune.budget import Budget
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate
from hasten.tune.judge import Judge
from onnx_models import model, run, value, weight

X = np.random.default_rng(0).normal(size=(48, 32)).astype(np.float32)


def two_heads() -> Model:
    """Features, then class scores, then a value."""
    return model_from_proto(
        model(
            [
                helper.make_node("MatMul", ["x", "w"], ["features"]),
                helper.make_node("Relu", ["features"], ["active"]),
                helper.make_node("MatMul", ["active", "v"], ["logits"]),
                helper.make_node("MatMul", ["active", "u"], ["price"]),
            ],
            [value("x", ["batch", 32])],
            [
                value("features", ["batch", 64]),
                value("logits", ["batch", 5]),
                value("price", ["batch", 1]),
            ],
            [weight("w", 32, 64), weight("v", 64, 5, seed=1), weight("u", 64, 1, seed=2)],
        ),
        "heads",
    )


NET = two_heads()
ANSWERS = run(NET, {"x": X})


def judging(folder: Path, labels: Any, metric: str | None, max_drop: float = 0.01) -> Judge:
    validation = Samples({"x": X}, labels)
    staged = folder / "staged"
    validation.save(staged)
    judge = Judge(
        resolve_metric(metric, validation),
        Budget(max_drop),
        validation,
        staged,
        folder,
        Deadline.after(None),
    )
    judge.judge_reference(Builder(NET, Context(folder)).contestant(candidate()))
    return judge


def candidate(*steps: Any) -> Candidate:
    return Candidate(steps, "onnxruntime", Execution(1))


def test_the_head_that_labels_are_for_is_read(tmp_path: Path) -> None:
    judge = judging(tmp_path, ANSWERS["logits"].argmax(1), None)
    assert judge.metric.reads(tuple(judge.reference)) == ("logits",)
    assert judge.reference_score is not None
    assert judge.reference_score.value == 1
    assert judge.notes == ["top1 reads output 'logits' (scores)"]


def test_an_error_that_grows_is_a_drop_in_its_own_unit(tmp_path: Path) -> None:
    labels = ANSWERS["price"].astype(np.float64)
    judge = judging(tmp_path, labels, "mae", max_drop=1e-6)
    assert judge.metric.reads(tuple(judge.reference)) == ("price",)
    lossy = Builder(NET, Context(tmp_path)).contestant(candidate(WeightInt8()))
    assert not judge.judge(lossy)
    assert lossy.score is not None
    grown = judge.drop_of(lossy)
    assert grown is not None
    assert grown == pytest.approx(-lossy.score.value, abs=1e-6)
    assert lossy.reason == f"adds {grown:.4f} to mae, 1e-06 is allowed"


def test_a_reference_near_chance_is_doubted(tmp_path: Path) -> None:
    judge = judging(tmp_path, np.arange(48) % 5, "top1")
    assert "hardly better than always answering the most common class" in judge.notes[-1]


def test_an_output_that_the_metric_does_not_read_may_not_be_ruined(tmp_path: Path) -> None:
    judge = judging(tmp_path, ANSWERS["price"][:, 0].astype(np.float64), "r2")
    assert judge.reference_score is not None
    assert [one.output for one in judge.reference_score.outputs] == ["features", "logits", "price"]


def test_few_samples_that_labels_do_not_tell_apart_are_judged_without(tmp_path: Path) -> None:
    classes = ANSWERS["logits"].argmax(1)
    judge = judging(tmp_path, classes, "auc")
    rows = np.flatnonzero(classes == classes[0])
    few = judge.validation.select(rows)
    few.save(tmp_path / "few")
    among = judge.among(few, tmp_path / "few", rows, Budget(1.0))
    assert (judge.metric.name, among.metric.name) == ("auc", "fidelity")
    assert among.reference_score is not None
    assert among.reference_score.value == 1


def test_labels_that_fit_no_output_name_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        judging(tmp_path, np.zeros((48, 7, 7)), "mae")
    assert "'features' is" in str(caught.value)
    assert "'logits' is" in str(caught.value)
    assert "'price' is" in str(caught.value)
