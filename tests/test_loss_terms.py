"""Losses that fit: what each output is compared by, with a teacher and with labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as f

from hasten.data.labels import Labels, take_labels
from hasten.data.meaning import Meaning
from hasten.errors import DataError, OptionError, RefusedError
from hasten.train import Objective, TrainedOutput, terms
from hasten.train.outputs import class_axis

SHAPES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "scores": ((6, 5), {"class_axis": -1}),
    "sequence": ((6, 7, 5), {"class_axis": -1}),
    "mask": ((6, 5, 4, 4), {"class_axis": -3}),
    "probabilities": ((6, 5), {"class_axis": -1, "exclusive": False}),
    "regression": ((6, 3), {}),
    "waveform": ((6, 50), {}),
    "boxes": ((6, 4, 4), {}),
    "boxes_and_scores": ((6, 9, 4), {"box_axis": -2}),
    "embedding": ((6, 16), {"class_axis": -1}),
}


def output(kind: Any, shape: tuple[int, ...], squash: Any = "", **more: Any) -> TrainedOutput:
    meaning = Meaning("y", kind, "given", **more)
    exclusive = meaning.class_axis if meaning.exclusive and kind != "embedding" else None
    axis = exclusive if exclusive is not None and shape[exclusive] > 1 else None
    return TrainedOutput("y", "y", meaning, shape, axis, squash, 2.0)


def drawn(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.05


@pytest.mark.parametrize("loss", ["auto", "mse", "l1", "bce"])
@pytest.mark.parametrize("kind", SHAPES)
def test_an_output_of_any_kind_is_drawn_to_the_teachers(kind: str, loss: str) -> None:
    """Nothing is left at the teacher's own answer, and every value is drawn to it elsewhere."""
    shape, more = SHAPES[kind]
    objective = Objective([output(kind, shape, **more)], loss=loss)
    teacher = drawn(shape)
    same, other = teacher.clone().requires_grad_(), drawn(shape, 1).requires_grad_()

    at_best = objective({"y": same}, None, {"y": teacher})
    away = objective({"y": other}, None, {"y": teacher})
    away.backward()

    assert at_best.item() == pytest.approx(0.0, abs=1e-5)
    assert away.item() > 1e-4
    assert other.grad is not None
    assert (other.grad != 0).float().mean() > 0.95


def test_classes_are_compared_along_their_own_axis() -> None:
    """What differs between classes alone counts; what differs between places does not."""
    shape, more = SHAPES["mask"]
    objective = Objective([output("mask", shape, **more)])
    teacher = drawn(shape)
    along_width = teacher + torch.arange(4.0)
    along_classes = teacher + 10 * torch.arange(5.0).reshape(5, 1, 1)

    assert objective({"y": along_width}, None, {"y": teacher}).item() == pytest.approx(0, abs=1e-5)
    assert objective({"y": along_classes}, None, {"y": teacher}).item() > 1


def test_all_outputs_count_by_their_weights() -> None:
    one, other = output("regression", (6, 3)), output("regression", (6, 3))
    pair = [
        TrainedOutput("a", "a", one.meaning, (6, 3), weight=3.0),
        TrainedOutput("b", "b", other.meaning, (6, 3), weight=1.0),
    ]
    zero = torch.zeros(6, 3)

    found = Objective(pair)({"a": zero + 1, "b": zero + 3}, None, {"a": zero, "b": zero})

    assert found.item() == pytest.approx((3 * 1 + 1 * 9) / 4)


LABELLED: dict[str, tuple[TrainedOutput, Any, Callable[[torch.Tensor, torch.Tensor], Any]]] = {
    "classes": (output("scores", (6, 5), class_axis=-1), [0, 1, 2, 3, 4, 0], f.cross_entropy),
    "classes of images": (
        output("mask", (6, 5, 4, 4), class_axis=-3),
        np.arange(96).reshape(6, 4, 4) % 5,
        f.cross_entropy,
    ),
    "yes or no": (
        output("probabilities", (6, 1), "sigmoid", exclusive=False),
        [0, 1, 1, 0, 1, 0],
        lambda y, t: f.binary_cross_entropy_with_logits(y[:, 0], t.float()),
    ),
    "several classes": (
        output("scores", (6, 5), class_axis=-1),
        np.arange(30).reshape(6, 5) % 2,
        lambda y, t: f.binary_cross_entropy_with_logits(y, t.float()),
    ),
    "values": (
        output("regression", (6, 3)),
        np.linspace(0, 1, 18, dtype=np.float32).reshape(6, 3),
        f.mse_loss,
    ),
    "one value": (
        output("regression", (6, 1)),
        np.linspace(0, 1, 6, dtype=np.float32),
        lambda y, t: f.mse_loss(y[:, 0], t),
    ),
    "a class a step": (
        output("sequence", (6, 7, 5), class_axis=-1),
        np.arange(42).reshape(6, 7) % 5,
        lambda y, t: f.cross_entropy(y.reshape(-1, 5), t.reshape(-1)),
    ),
    "a map": (
        output("mask", (6, 1, 4, 4), "sigmoid", exclusive=False),
        np.arange(96).reshape(6, 4, 4) % 2 + 0,
        lambda y, t: f.binary_cross_entropy_with_logits(y[:, 0], t.float()),
    ),
}


@pytest.mark.parametrize("name", LABELLED)
def test_labels_of_any_kind_are_compared_with_the_output_they_fit(name: str) -> None:
    one, given, formula = LABELLED[name]
    labels = take_labels(np.asarray(given), 6, "labels")
    other = TrainedOutput("z", "z", Meaning("z", "regression"), (6, 2, 2))
    objective = Objective([other, one], alpha=1.0, labels=labels)
    y = drawn(one.shape)

    found = objective({"y": y, "z": torch.zeros(6, 2, 2)}, objective.encode(labels), None)

    want = formula(y, torch.as_tensor(np.asarray(given)))
    assert found.item() == pytest.approx(float(want), rel=1e-5)
    assert objective.title.endswith("of y")
    assert (objective.needs_labels, objective.needs_teacher) == (True, False)


@pytest.mark.parametrize(
    ("kind", "shape", "given", "losses"),
    [
        ("scores", (6, 5), [0, 1, 2, 3, 4, 0], ["cross_entropy", "focal", "iou"]),
        ("regression", (6, 3), np.ones((6, 3), np.float32), ["mse", "l1"]),
        ("boxes", (6, 4), np.array([[0, 0, 2, 3]] * 6, np.float32), ["mse", "l1", "iou"]),
        ("sequence", (6, 7, 5), np.array([[1, 2, -1]] * 6), ["ctc"]),
    ],
)
def test_a_loss_that_is_named_brings_the_output_nearer(
    kind: str, shape: tuple[int, ...], given: Any, losses: list[str]
) -> None:
    more = {"class_axis": -1} if kind in {"scores", "sequence"} else {}
    labels = take_labels(np.asarray(given), 6, "labels")
    for loss in losses:
        objective = Objective([output(kind, shape, **more)], loss=loss, alpha=1.0, labels=labels)
        y = drawn(shape).requires_grad_()
        optimizer = torch.optim.Adam([y], 0.05)
        before = after = math.nan
        for step in range(40):
            found = objective({"y": y}, objective.encode(labels), None)
            before, after = (found.item() if step == 0 else before), found.item()
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
        assert after < 0.8 * before, loss


def test_texts_are_spelled_with_their_alphabet() -> None:
    labels = Labels.of_texts(["ab", "b"], alphabet=("<blank>", "a", "b"))
    one = output("sequence", (2, 6, 3), class_axis=-1)
    objective = Objective([one], alpha=1.0, labels=labels)
    sure = torch.full((2, 6, 3), -20.0)
    for step, (first, second) in enumerate(
        zip([0, 1, 1, 0, 2, 0], [0, 0, 2, 2, 0, 0], strict=True)
    ):
        sure[0, step, first] = sure[1, step, second] = 20.0

    found = objective({"y": sure}, objective.encode(labels), None)

    assert found.item() == pytest.approx(0.0, abs=1e-4)


def test_places_that_are_not_judged_are_not_trained() -> None:
    labels = take_labels(np.array([[[0, 255], [-1, 1]]]), 1, "labels")
    objective = Objective([output("mask", (1, 3, 2, 2), class_axis=-3)], alpha=1.0, labels=labels)
    y = drawn((1, 3, 2, 2)).requires_grad_()

    objective({"y": y}, objective.encode(labels), None).backward()

    assert y.grad is not None
    assert (y.grad.abs().sum(1) > 0).tolist() == [[[True, False], [False, True]]]


def test_class_weights_and_smoothing_are_those_of_torch() -> None:
    labels = take_labels(np.array([0, 1, 2, 1]), 4, "labels")
    settings: dict[str, Any] = {"smoothing": 0.1, "class_weights": (1.0, 2.0, 0.5)}
    objective = Objective(
        [output("scores", (4, 3), class_axis=-1)], alpha=1.0, labels=labels, **settings
    )
    y = drawn((4, 3))

    found = objective({"y": y}, objective.encode(labels), None)

    weights = torch.tensor([1.0, 2.0, 0.5])
    want = f.cross_entropy(y, torch.tensor([0, 1, 2, 1]), weights, label_smoothing=0.1)
    assert found.item() == pytest.approx(want.item())


def test_generalised_overlap_is_that_of_the_paper() -> None:
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]])
    centred = torch.tensor([[1.0, 1, 2, 2]]), torch.tensor([[2.0, 2, 2, 2]])

    assert terms.generalized_iou(a, b, "xyxy").item() == pytest.approx(1 - 1 / 7 + 2 / 9)
    assert terms.generalized_iou(*centred, "cxcywh").item() == pytest.approx(1 - 1 / 7 + 2 / 9)


@pytest.mark.parametrize(
    ("given", "loss", "message"),
    [
        ([0, 1, 9], "auto", r"labels of one class, an integer from 0, got outputs of y \[5\]"),
        ([0, 1, 2], "ctc", r"an output that loss ctc can compare with labels of one class"),
        (np.ones((3, 2), np.float32), "auto", r"of shape \[2\], got outputs of y \[5\]"),
        ([{"boxes": [[0, 0, 1, 1]], "classes": [0]}] * 3, "auto", "labels of boxes"),
    ],
)
def test_labels_that_fit_no_output_are_refused_in_one_line(
    given: Any, loss: str, message: str
) -> None:
    array = given if isinstance(given, list) and isinstance(given[0], dict) else np.asarray(given)
    labels = take_labels(array, 3, "labels")

    with pytest.raises(DataError, match=message) as raised:
        Objective([output("scores", (3, 5), class_axis=-1)], loss=loss, alpha=1.0, labels=labels)
    assert "\n" not in str(raised.value)


def test_class_weights_of_another_number_are_refused() -> None:
    labels = take_labels(np.array([0, 1, 2]), 3, "labels")
    with pytest.raises(OptionError, match="Expected a weight for each of 5 classes, got 2"):
        Objective(
            [output("scores", (3, 5), class_axis=-1)],
            alpha=1.0,
            labels=labels,
            class_weights=(1.0, 2.0),
        )


def test_outputs_that_cannot_be_compared_make_no_loss() -> None:
    with pytest.raises(RefusedError, match=r"the loss cannot move: .* \(y is detections\)"):
        Objective([output("detections", (6, 6))])
    with pytest.raises(RefusedError, match=r"the loss cannot move: .*there is none"):
        Objective([])


def test_one_class_is_no_class() -> None:
    assert class_axis([8, 1]) is None
    assert output("scores", (6, 1), class_axis=-1).axis is None
