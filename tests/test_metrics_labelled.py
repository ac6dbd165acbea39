"""Metrics with labels: against the libraries, by hand, and what they read in whose outputs."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as skl
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.data import METRICS, Labels
from hasten.data.answers import Answers
from hasten.data.meaning import OutputKind, find_meanings
from hasten.data.metrics import Labelled
from hasten.errors import DataError
from labelled_metrics import RANDOM, bound, score

LOGITS = RANDOM.normal(size=(40, 4))
CLASSES = RANDOM.integers(0, 4, 40)
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


# Classes


@pytest.mark.parametrize("count", [1, 2, 3])
def test_topk_is_that_of_scikit_learn(count: int) -> None:
    expected = skl.top_k_accuracy_score(CLASSES, LOGITS, k=count, labels=range(4))
    assert score(f"top{count}", {"y": LOGITS}, CLASSES).value == pytest.approx(expected)


def test_as_many_as_there_are_classes_are_no_choice() -> None:
    with pytest.raises(DataError) as caught:
        score("top5", {"y": LOGITS}, CLASSES)
    assert str(caught.value) == (
        "Expected fewer than the 4 classes of output 'y', got top5 - at --metric"
    )


def test_f1_is_macro_over_the_classes_that_labels_have() -> None:
    expected = skl.f1_score(CLASSES, LOGITS.argmax(1), average="macro")
    assert score("f1", {"y": LOGITS}, CLASSES).value == pytest.approx(expected)
    few = CLASSES % 2
    expected = skl.f1_score(few, LOGITS.argmax(1), average="macro", labels=[0, 1])
    assert score("f1", {"y": LOGITS}, few).value == pytest.approx(expected)


def test_f1_of_two_classes_is_that_of_class_1() -> None:
    two, labels = LOGITS[:, :2], CLASSES % 2
    expected = skl.f1_score(labels, two.argmax(1))
    assert score("f1", {"y": two}, labels).value == pytest.approx(expected)
    apart = two[:, 1] - two[:, 0]
    assert score("f1", {"y": apart}, labels).value == pytest.approx(expected)
    assert score("f1", {"y": 1 / (1 + np.exp(-apart))}, labels).value == pytest.approx(expected)


def test_several_classes_a_sample_are_decided_one_by_one() -> None:
    labels = (RANDOM.random((40, 4)) < 0.4).astype(int)
    expected = skl.f1_score(labels, LOGITS >= 0, average="macro")
    assert score("f1", {"y": LOGITS}, labels).value == pytest.approx(expected)
    sigmoid = 1 / (1 + np.exp(-LOGITS))
    assert score("f1", {"y": sigmoid}, labels).value == pytest.approx(expected)
    expected = skl.roc_auc_score(labels, LOGITS)
    assert score("auc", {"y": LOGITS}, labels).value == pytest.approx(expected)


def test_auc_is_that_of_scikit_learn() -> None:
    expected = skl.roc_auc_score(CLASSES, SOFTMAX, multi_class="ovr")
    assert score("auc", {"y": SOFTMAX}, CLASSES).value == pytest.approx(expected)
    assert score("auc", {"y": LOGITS}, CLASSES).value == pytest.approx(expected)
    apart = LOGITS[:, 1] - LOGITS[:, 0]
    expected = skl.roc_auc_score(CLASSES % 2, apart)
    assert score("auc", {"y": LOGITS[:, :2]}, CLASSES % 2).value == pytest.approx(expected)
    assert score("auc", {"y": apart}, CLASSES % 2).value == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(40, 4), (40, 1, 4), (40, 4, 1, 1), (40, 1, 4, 1)])
def test_the_axis_of_classes_is_found_and_not_taken_for_the_last(shape: tuple[int, ...]) -> None:
    expected = float((LOGITS.argmax(1) == CLASSES).mean())
    assert score("top1", {"y": LOGITS.reshape(shape)}, CLASSES).value == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.lists(st.integers(2, 4), min_size=1, max_size=2), st.data())
def test_places_have_labels_wherever_classes_stand(
    classes: int, places: list[int], data: st.DataObject
) -> None:
    labels = RANDOM.integers(0, classes, (3, *places))
    scores = np.eye(classes)[labels] + 0.1 * RANDOM.normal(size=(3, *places, classes))
    axis = data.draw(st.sampled_from([1, len(places) + 1]))
    moved = np.moveaxis(scores, -1, axis)
    truth = Labels.array("mask", labels)
    metric, answers = METRICS["top1"], Answers.of({"y": moved})
    assert isinstance(metric, Labelled)
    wanted: dict[str, OutputKind] = {"y": "mask"} if len(places) == 2 else {"y": "sequence"}
    meanings = find_meanings(answers, wanted=wanted)
    found = metric.bound(answers, meanings, truth).evaluate(answers, truth)
    said = np.moveaxis(moved, axis, -1).argmax(-1)
    if moved.shape[axis] in places:  # then the shape does not tell
        return
    assert found.value == pytest.approx(float((said == labels).mean()))


def test_places_that_are_not_labelled_are_not_judged() -> None:
    labels = np.array([[0, 1, -100], [1, -100, 2]])
    scores = np.eye(3)[np.where(labels < 0, 0, labels)]
    assert score("top1", {"y": scores}, labels).details == {"correct": 4, "samples": 4}


# Which output


def test_the_output_that_fits_is_read_and_not_the_first() -> None:
    outputs = {"embedding": RANDOM.normal(size=(40, 32)), "value": LOGITS[:, 0], "logits": LOGITS}
    metric, answers, labels = bound("top1", outputs, CLASSES)
    assert metric.reads(tuple(outputs)) == ("logits",)
    assert metric.evaluate(answers, labels) == score("top1", {"y": LOGITS}, CLASSES)
    assert metric.notes(answers, labels)[0] == "top1 reads output 'logits' (scores)"


def test_of_two_heads_the_one_with_enough_classes_is_read() -> None:
    outputs = {"coarse": LOGITS[:, :2], "fine": LOGITS}
    metric, *_ = bound("top1", outputs, CLASSES)
    assert metric.reads(tuple(outputs)) == ("fine",)


def test_an_output_that_the_user_calls_otherwise_is_not_read() -> None:
    with pytest.raises(DataError) as caught:
        bound("top1", {"y": LOGITS}, CLASSES, {"y": "regression"})
    assert str(caught.value) == (
        "Expected an output with class scores, one row for each of 40 labels, got 'y' is "
        "regression, float64[4] - at metric top1 (say what an output is with --output NAME=KIND, "
        "or use another --metric)"
    )


@pytest.mark.parametrize("name", [name for name in METRICS if name != "fidelity"])
def test_every_metric_names_the_outputs_that_do_not_fit(name: str) -> None:
    metric = METRICS[name]
    assert isinstance(metric, Labelled)
    labels = {
        "classes": [0, 1],
        "several": [[0, 1], [1, 1]],
        "values": [0.5, 1.0],
        "mask": np.arange(32).reshape(2, 4, 4),
        "boxes": [{"boxes": [[0, 0, 1, 1]], "classes": [0]}] * 2,
        "texts": ["a", "b"],
    }[metric.rule.labels[0]]
    outputs = {"one": np.zeros((2, 3, 5, 7, 2)), "other": np.zeros((2, 3, 5, 7))}
    with pytest.raises(DataError) as caught:
        bound(name, outputs, labels, {"other": "waveform"})
    assert "Expected an output with " in str(caught.value)
    assert "'one' is regression, float64[3, 5, 7, 2]; 'other' is waveform" in str(caught.value)
    assert "--output NAME=KIND" in str(caught.value)


def test_a_candidate_is_read_as_the_reference_was() -> None:
    metric, _, labels = bound("f1", {"y": 1 / (1 + np.exp(-LOGITS[:, 0]))}, CLASSES % 2)
    candidate = np.where(CLASSES % 2, 0.6, 0.4) * 3  # beyond 1, yet no logits
    assert metric.evaluate({"y": candidate}, labels).value < 1


# Values


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 3)])
def test_errors_of_values_are_those_of_scikit_learn_and_lower_is_better(
    shape: tuple[int, ...],
) -> None:
    truth = RANDOM.normal(size=shape)
    said = truth + 0.2 * RANDOM.normal(size=shape)
    flat = truth.reshape(30, -1), said.reshape(30, -1)
    assert score("mae", {"y": said}, truth).value == -skl.mean_absolute_error(*flat)
    assert score("rmse", {"y": said}, truth).value == pytest.approx(
        -(skl.mean_squared_error(*flat) ** 0.5)
    )
    assert score("r2", {"y": said}, truth).value == pytest.approx(skl.r2_score(*flat))


def test_whole_numbers_are_values_too() -> None:
    assert score("mae", {"y": np.array([[1.0], [2.5]])}, np.array([1, 2])).value == -0.25


# Masks


def test_iou_is_that_of_scikit_learn_over_all_places() -> None:
    labels = RANDOM.integers(0, 3, (4, 8, 8))
    scores = np.eye(3)[labels].transpose(0, 3, 1, 2) + 0.6 * RANDOM.normal(size=(4, 3, 8, 8))
    expected = skl.jaccard_score(labels.ravel(), scores.argmax(1).ravel(), average="macro")
    assert score("iou", {"y": scores}, labels).value == pytest.approx(expected)
    assert score("iou", {"y": scores.argmax(1)}, labels).value == pytest.approx(expected)
    last = scores.transpose(0, 2, 3, 1)
    assert score("iou", {"y": last}, labels).value == pytest.approx(expected)


def test_iou_of_one_class_is_decided_at_one_half() -> None:
    labels = RANDOM.integers(0, 2, (4, 8, 8))
    scores = np.clip(0.5 * labels + 0.5 * RANDOM.random((4, 8, 8)), 0, 1)[:, np.newaxis]
    said = (scores >= 0.5).ravel()
    expected = skl.jaccard_score(labels.ravel(), said, average="macro")
    assert score("iou", {"y": scores}, labels).value == pytest.approx(expected)


def test_places_of_255_and_below_0_are_not_judged() -> None:
    labels = np.array([[[0, 1], [255, -1]]])
    assert score("iou", {"y": np.array([[[0, 1], [0, 0]]])}, labels).value == 1


def test_coarse_scores_are_enlarged_to_the_masks_of_the_picture() -> None:
    import torch

    labels = Labels.array("mask", RANDOM.integers(0, 3, (2, 16, 16)), size=(16, 16))
    scores = RANDOM.normal(size=(2, 3, 4, 4)).astype(np.float32)
    metric, answers = METRICS["iou"], Answers.of({"y": scores})
    assert isinstance(metric, Labelled)
    read = metric.bound(answers, find_meanings(answers, wanted={"y": "mask"}), labels)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(scores), scale_factor=4.0, mode="bilinear"
    )
    expected = skl.jaccard_score(
        labels.values.ravel(), large.numpy().argmax(1).ravel(), average="macro"
    )
    assert read.evaluate(answers, labels).value == pytest.approx(expected)
    assert read.notes(answers, labels)[0].endswith("enlarged 4 times to the size of the masks")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((1, 8, 8), 3), "Expected masks of classes 0 to 2 for output 'y', got class 3"),
        (np.full((1, 8, 8), -1), "Expected masks with a class in some place, got only 255 and"),
        (np.full((1, 4, 8), 2), "Expected an output with a class for each of [4, 8] places"),
    ],
)
def test_masks_that_do_not_fit_say_why(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError) as caught:
        score("iou", {"y": np.zeros((1, 3, 8, 8)) + np.arange(8)}, labels)
    assert message in str(caught.value)


# What is not told by the figure alone


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "doubt"),
    [
        ("top1", LOGITS, CLASSES, "hardly better than always answering the most common class"),
        ("f1", LOGITS, np.roll(CLASSES, 1), "hardly better than guessing"),
        ("auc", LOGITS, CLASSES, "hardly better than guessing (50.00 %)"),
        ("r2", LOGITS[:, 0], SOFTMAX[:, 1], "hardly better than always answering the mean"),
        ("mae", LOGITS[:, 0], SOFTMAX[:, 1], "hardly better than always answering the median"),
        ("recall@1", RANDOM.normal(size=(40, 32)), CLASSES, "than choosing neighbours at random"),
        ("cer", np.array(["xyz"] * 3), np.array(["ab", "cd", "ef"]), "for every sample"),
        (
            "iou",
            np.zeros((2, 8, 8), int),
            RANDOM.integers(0, 3, (2, 8, 8)),
            "the reference predicts class 0 in every place",
        ),
        (
            "top1",
            LOGITS * 0 + [3, 2, 1, 0],
            CLASSES,
            "all 40 predictions of the reference are class 0",
        ),
        ("top1", LOGITS, CLASSES * 0, "all 40 labels are of one class"),
    ],
)
def test_a_reference_near_chance_is_a_warning_that_says_what_to_check(
    name: str, outputs: np.ndarray, labels: np.ndarray, doubt: str
) -> None:
    metric, answers, truth = bound(name, {"y_embedding" if "@" in name else "y": outputs}, labels)
    (*_, note) = [one for one in metric.notes(answers, truth) if doubt in one]
    assert note.startswith("warning: ")
    assert "labels in another order" in note
    assert "preprocessing" in note


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(30, 80), st.integers(0, 99))
def test_a_reference_that_is_mostly_right_is_not_doubted(
    classes: int, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    scores = np.eye(classes)[labels] + 0.3 * random.normal(size=(count, classes))
    for name in ("top1", "auc", "f1"):
        metric, answers, truth = bound(name, {"y": scores}, labels)
        assert metric.notes(answers, truth) == []


def test_a_figure_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(
        DataError, match="Expected finite outputs, got output 'y' sample 1 holds inf"
    ):
        score("mae", {"y": np.array([1.0, np.inf])}, np.array([1.0, 2.0]))
    with pytest.raises(
        DataError, match="Expected finite outputs, got output 'y' sample 0 holds NaN"
    ):
        score("auc", {"y": np.array([[np.nan, 1.0]])}, np.array([1]))
