"""Mean average precision: however a detector writes its boxes, scores and classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from hasten.data import METRICS, Labels
from hasten.data.answers import Answers, Output
from hasten.data.meaning import OutputKind, find_meanings
from hasten.data.metrics import Labelled
from hasten.data.metrics.detection.layout import Layout
from hasten.data.metrics.detection.precision import Detections, average_precision
from hasten.data.metrics.detection.suppression import suppressed
from hasten.errors import DataError

RANDOM = np.random.default_rng(0)
SIZE = (64, 96)
CLASSES = 3
ANCHORS = 40


def corners(count: int) -> np.ndarray:
    low = RANDOM.uniform(0, 40, (count, 2))
    return np.concatenate([low, low + RANDOM.uniform(8, 24, (count, 2))], axis=1)


#: Boxes and classes of twelve pictures.
TOLD = [(corners(count), RANDOM.integers(0, CLASSES, count)) for count in RANDOM.integers(1, 4, 12)]
TRUTH = Labels.of_boxes([one for one, _ in TOLD], [one for _, one in TOLD], size=SIZE)


def detected() -> tuple[np.ndarray, np.ndarray]:
    """Return corners and scores, [12, ANCHORS, ...], which are right, in some noise."""
    boxes = np.stack([corners(ANCHORS) for _ in TOLD])
    scores = 0.05 * RANDOM.random((len(TOLD), ANCHORS, CLASSES))
    for at, (told, classes) in enumerate(TOLD):
        places = RANDOM.permutation(ANCHORS)[: len(told)]
        boxes[at, places], scores[at, places, classes] = told, 0.9
    return boxes, scores


BOXES, SCORES = detected()


def centred(boxes: np.ndarray) -> np.ndarray:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return np.concatenate([boxes[..., :2] + sizes / 2, sizes], axis=-1)


def shares(boxes: np.ndarray) -> np.ndarray:
    return boxes / [SIZE[1], SIZE[0]] * 1 if boxes.shape[-1] == 2 else boxes / ([*SIZE[::-1]] * 2)


def rows(at: int, *, offset: int = 0) -> np.ndarray:
    """Return [k, 6]: corners, score and class of one picture's detections."""
    places, classes = np.nonzero(SCORES[at] > 0.5)
    parts = [BOXES[at][places], SCORES[at][places, classes][:, None], classes[:, None] + offset]
    return np.concatenate(parts, axis=1)


def varying(parts: Mapping[str, list[np.ndarray]]) -> Answers:
    return Answers({name: Output(name, None, each) for name, each in parts.items()})


def with_background(first: bool) -> np.ndarray:
    none = 1 - SCORES.sum(axis=-1, keepdims=True)
    return np.concatenate([none, SCORES] if first else [SCORES, none], axis=-1)


def logits(scores: np.ndarray) -> np.ndarray:
    return np.log(scores + 1e-6)


def sigmoid_logits(scores: np.ndarray) -> np.ndarray:
    return np.log(scores + 1e-6) - np.log1p(-scores + 1e-6)


JOINED = np.concatenate([centred(BOXES), SCORES], axis=-1)
OBJECT = np.concatenate(
    [centred(BOXES), SCORES.max(-1, keepdims=True), SCORES / SCORES.max(-1, keepdims=True)], axis=-1
)
YXYX = BOXES[..., [1, 0, 3, 2]]
ROWS = [rows(at) for at in range(len(TOLD))]

FORMS: dict[str, tuple[Callable[[], Answers], dict[str, OutputKind]]] = {
    "boxes, then scores": (lambda: Answers.of({"y": JOINED}), {}),
    "as YOLOv8 has it": (lambda: Answers.of({"y": JOINED.transpose(0, 2, 1)}), {}),
    "with a score of any object": (lambda: Answers.of({"y": OBJECT}), {}),
    "corners": (lambda: Answers.of({"y": np.concatenate([BOXES, SCORES], axis=-1)}), {}),
    "shares of the picture": (
        lambda: Answers.of({"y": np.concatenate([shares(BOXES), SCORES], axis=-1)}),
        {"y": "boxes_and_scores"},
    ),
    "transposed shares": (
        lambda: Answers.of(
            {"y": np.concatenate([shares(centred(BOXES)), SCORES], axis=-1).transpose(0, 2, 1)}
        ),
        {"y": "boxes_and_scores"},
    ),
    "boxes beside scores": (lambda: Answers.of({"boxes": BOXES, "scores": SCORES}), {}),
    "a background first, softmax": (
        lambda: Answers.of({"boxes": shares(BOXES), "scores": with_background(first=True)}),
        {},
    ),
    "a background last, logits, as DETR has it": (
        lambda: Answers.of(
            {"logits": logits(with_background(first=False)), "pred_boxes": shares(centred(BOXES))}
        ),
        {"pred_boxes": "boxes"},
    ),
    "sigmoid logits": (
        lambda: Answers.of({"boxes": BOXES, "scores": sigmoid_logits(SCORES)}),
        {},
    ),
    "as TensorFlow's SSD has it": (
        lambda: Answers.of(
            {
                "detection_boxes": shares(BOXES)[..., [1, 0, 3, 2]],
                "detection_classes": SCORES.argmax(-1).astype(np.float32) + 1,
                "detection_scores": SCORES.max(-1),
                "num_detections": np.full(len(TOLD), float(ANCHORS)),
            }
        ),
        {"detection_boxes": "boxes"},
    ),
    "rows of varying number": (lambda: varying({"y": ROWS}), {}),
    "rows with the number of the image first": (
        lambda: varying(
            {
                "y": [
                    np.concatenate([np.full((len(one), 1), at), one], 1)
                    for at, one in enumerate(ROWS)
                ]
            }
        ),
        {},
    ),
    "as torchvision has it": (
        lambda: varying(
            {
                "boxes": [one[:, :4] for one in ROWS],
                "labels": [one[:, 5].astype(np.int64) + 1 for one in ROWS],
                "scores": [one[:, 4] for one in ROWS],
            }
        ),
        {"boxes": "detections"},
    ),
}


def bound(answers: Answers, labels: Labels, kinds: Mapping[str, OutputKind]) -> Labelled:
    metric = METRICS["map"]
    assert isinstance(metric, Labelled)
    return metric.bound(answers, find_meanings(answers, wanted=kinds), labels)


@pytest.mark.parametrize("form", FORMS)
def test_boxes_are_found_however_they_are_written(form: str) -> None:
    make, kinds = FORMS[form]
    answers = make()
    metric = bound(answers, TRUTH, kinds)
    score = metric.evaluate(answers, TRUTH)
    assert score.value == pytest.approx(1, abs=1e-6), metric.notes(answers, TRUTH)
    assert set(score.details) == {"map", "map50", "map75"}
    assert not any(one.startswith("warning") for one in metric.notes(answers, TRUTH))


def test_the_note_says_how_boxes_are_read() -> None:
    answers = Answers.of({"boxes": shares(BOXES), "scores": with_background(first=True)})
    (note,) = bound(answers, TRUTH, {}).notes(answers, TRUTH)
    assert note == (
        "map reads output 'boxes' and 'scores' (boxes): boxes are xyxy in shares of the picture, "
        "class 0 is the background"
    )


def test_classes_are_numbered_as_in_the_label_file_where_the_model_does_so() -> None:
    ids = (1, 7, 90)
    labels = Labels.of_boxes([one for one, _ in TOLD], [one for _, one in TOLD], size=SIZE, ids=ids)
    parts = {
        "boxes": [one[:, :4] for one in ROWS],
        "labels": [np.array(ids)[one[:, 5].astype(int)] for one in ROWS],
        "scores": [one[:, 4] for one in ROWS],
    }
    answers = varying(parts)
    metric = bound(answers, labels, {"boxes": "detections"})
    assert metric.evaluate(answers, labels).value == pytest.approx(1)


def test_a_candidate_is_read_as_the_reference_and_loses_what_it_loses() -> None:
    answers = Answers.of({"y": JOINED})
    metric = bound(answers, TRUTH, {})
    shifted = JOINED + np.array([12, 12, 0, 0, *[0] * CLASSES])
    assert metric.evaluate({"y": shifted}, TRUTH).value < 0.2
    permuted = np.concatenate([JOINED[..., :4], np.roll(SCORES, 1, axis=-1)], axis=-1)
    assert metric.evaluate({"y": permuted}, TRUTH).value < 0.05
    assert metric.evaluate({"y": JOINED * ([1] * 4 + [0] * CLASSES)}, TRUTH).value == 0


def test_a_detector_that_finds_nothing_is_a_warning() -> None:
    answers = Answers.of({"y": np.concatenate([centred(BOXES), SCORES * 0 + 0.01], axis=-1)})
    answers["y"].values[..., 4] += 0.001 * RANDOM.random((len(TOLD), ANCHORS))  # type: ignore[index]
    empty = Labels.of_boxes([one + 500 for one, _ in TOLD], [one for _, one in TOLD], size=SIZE)
    notes = bound(answers, empty, {"y": "boxes_and_scores"}).notes(answers, empty)
    assert (
        "warning: map of the reference is 0.00 %, hardly better than finding nothing" in notes[-1]
    )


# The parts


def found(boxes: Any, scores: Any, classes: Any) -> Detections:
    return Detections(np.array(boxes, float), np.array(scores), np.array(classes))


def test_average_precision_by_hand() -> None:
    labels = Labels.of_boxes([[[0, 0, 10, 10], [20, 20, 30, 30]]], [[0, 0]])
    # The best is right, the next is wrong, then one overlaps by 0.8: precision 1 up to recall 1/2,
    # then 2/3 at overlaps of 0.50 to 0.80, so (51 + 50 * 2/3) / 101.
    one = found([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 28]], [0.9, 0.8, 0.7], [0, 0, 0])
    precision = average_precision([one], labels, "map")
    whole, half = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert precision.at_50 == pytest.approx(whole)
    assert precision.at_75 == pytest.approx(whole)
    assert precision.all == pytest.approx((7 * whole + 3 * half) / 10)


def test_crowds_are_neither_found_nor_missed() -> None:
    labels = Labels.of_boxes([[[0, 0, 10, 10], [20, 20, 40, 40]]], [[0, 0]], [[False, True]])
    one = found([[0, 0, 10, 10], [22, 22, 30, 30]], [0.5, 0.9], [0, 0])
    assert average_precision([one], labels, "map").all == pytest.approx(1)


def test_of_boxes_that_overlap_the_best_of_each_class_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10]], float)
    kept = suppressed(boxes, np.array([0.5, 0.9, 0.8, 0.1]), np.array([0, 0, 1, 0]))
    assert kept.tolist() == [1, 2, 3]


def test_a_layout_says_what_it_is() -> None:
    said = str(Layout("yxyx", (64.0, 64.0), objectness=True, activation="sigmoid", classes="by id"))
    assert said == (
        "boxes are yxyx in shares of the picture, scores are multiplied by that of any object, "
        "scores are logits, read through a sigmoid, classes are numbered as the categories of the "
        "label file"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Labels.of_boxes([[]] * 12, [[]] * 12), "Expected labels with boxes, got none"),
        (
            Labels.of_boxes([one for one, _ in TOLD[:3]], [one for _, one in TOLD[:3]]),
            "Expected one answer for each of 3 labels, got 12 - at output 'y'",
        ),
        (
            Labels.of_boxes([one for one, _ in TOLD], [one + 2 for _, one in TOLD]),
            "Expected labels of classes 0 to 2 for output 'y', got class 4 - at labels",
        ),
        (
            Labels.of_boxes([shares(one) for one, _ in TOLD], [one for _, one in TOLD]),
            "Expected labelled boxes in pixels of the picture, as the model's are, got labels up",
        ),
    ],
)
def test_labels_that_the_outputs_do_not_fit_say_why(labels: Labels, message: str) -> None:
    answers = Answers.of({"y": JOINED})
    with pytest.raises(DataError) as caught:
        bound(answers, labels, {}).evaluate(answers, labels)
    assert message in str(caught.value)


def test_shares_of_a_picture_of_unknown_size_say_what_to_do() -> None:
    labels = Labels.of_boxes([one for one, _ in TOLD], [one for _, one in TOLD])
    answers = Answers.of({"y": np.concatenate([shares(BOXES), SCORES], axis=-1)})
    with pytest.raises(
        DataError, match="Expected the size of the picture, for a model whose boxes"
    ):
        bound(answers, labels, {"y": "boxes_and_scores"})
