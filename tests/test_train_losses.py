"""Losses against the same formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.errors import DataError
from hasten.train.losses import (
    DecoupledLoss,
    DistillationLoss,
    HintLoss,
    LabelLoss,
    MatchingLoss,
    WeightedLoss,
    decoupled_divergence,
    distillation_divergence,
    label_cross_entropy,
)

seeds = st.integers(0, 2**16)
Array = np.ndarray


def drawn(seed: int, rows: int = 5, classes: int = 4) -> tuple[Array, Array, Array]:
    """Logits of a student, logits of a teacher, and labels."""
    random = np.random.default_rng(seed)
    student, teacher = 3 * random.normal(size=(2, rows, classes))
    return student, teacher, random.integers(classes, size=rows)


def log_softmax(x: Array) -> Array:
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))


def divergence(teacher: Array, student: Array) -> float:
    """Mean over rows of KL(teacher || student), of log probabilities."""
    return float((np.exp(teacher) * (teacher - student)).sum(-1).mean())


@settings(max_examples=20, deadline=None)
@given(seed=seeds, smoothing=st.sampled_from([0.0, 0.1]))
def test_cross_entropy_spreads_its_smoothing_over_all_classes(seed: int, smoothing: float) -> None:
    logits, _, labels = drawn(seed)
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    want = -(target * log_softmax(logits)).sum(-1).mean()

    found = label_cross_entropy(torch.tensor(logits), torch.tensor(labels), smoothing)

    assert found.item() == pytest.approx(want, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, temperature=st.sampled_from([1.0, 4.0]))
def test_distillation_is_the_divergence_of_softened_classes(seed: int, temperature: float) -> None:
    student, teacher, _ = drawn(seed)
    softened = [log_softmax(each / temperature) for each in (teacher, student)]

    found = distillation_divergence(torch.tensor(student), torch.tensor(teacher), temperature)

    assert found.item() == pytest.approx(temperature**2 * divergence(*softened), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, temperature=st.sampled_from([1.0, 4.0]))
def test_decoupled_distillation_weighs_the_other_classes_apart(
    seed: int, temperature: float
) -> None:
    student, teacher, labels = drawn(seed)
    parts = []
    for logits in (teacher, student):
        share = np.exp(log_softmax(logits / temperature))
        target = share[np.arange(len(labels)), labels]
        others = np.array([np.delete(row, at) for row, at in zip(share, labels, strict=True)])
        binary = np.log(np.stack([target, others.sum(-1)], -1))
        parts.append((binary, np.log(others / others.sum(-1, keepdims=True))))
    (binary_t, others_t), (binary_s, others_s) = parts
    want = divergence(binary_t, binary_s) + 8.0 * divergence(others_t, others_s)

    found = decoupled_divergence(
        torch.tensor(student), torch.tensor(teacher), torch.tensor(labels), temperature, 8.0
    )

    assert found.item() == pytest.approx(temperature**2 * want, rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_target_and_other_classes_add_up_to_plain_distillation(seed: int) -> None:
    student, teacher, _ = drawn(seed, rows=1)
    label = np.array([2])
    other_share = 1 - np.exp(log_softmax(teacher))[0, 2]

    decoupled = decoupled_divergence(
        torch.tensor(student), torch.tensor(teacher), torch.tensor(label), 1.0, float(other_share)
    )

    plain = distillation_divergence(torch.tensor(student), torch.tensor(teacher), 1.0)
    assert decoupled.item() == pytest.approx(plain.item(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("kind", [DistillationLoss, DecoupledLoss])
def test_alpha_weighs_labels_against_the_teacher(
    kind: type[DistillationLoss] | type[DecoupledLoss],
) -> None:
    student, teacher, labels = (torch.tensor(each) for each in drawn(0))
    outputs, answers = {"y": student}, {"y": teacher}

    def at(alpha: float) -> float:
        return float(kind(alpha=alpha)(outputs, labels, answers))

    assert at(0.25) == pytest.approx(0.25 * at(1.0) + 0.75 * at(0.0))
    assert at(1.0) == pytest.approx(label_cross_entropy(student, labels).item())
    assert (kind(alpha=0.0).needs_labels, kind(alpha=0.1).needs_labels) == (False, True)


def test_decoupled_distillation_takes_the_teachers_class_where_there_are_no_labels() -> None:
    student, teacher, _ = (torch.tensor(each) for each in drawn(1))
    outputs, answers = {"y": student}, {"y": teacher}

    with_its_own = DecoupledLoss()(outputs, teacher.argmax(-1), answers)

    assert DecoupledLoss()(outputs, None, answers).item() == pytest.approx(with_its_own.item())


def test_matching_is_the_mean_squared_difference_over_outputs() -> None:
    outputs = {"a": torch.zeros(2, 3), "b": torch.ones(2, 1)}
    answers = {"a": torch.full((2, 3), 2.0), "b": torch.zeros(2, 1)}

    assert MatchingLoss()(outputs, None, answers).item() == pytest.approx((4.0 + 1.0) / 2)


def test_hints_compare_features_after_a_projection_of_channels() -> None:
    random = np.random.default_rng(0)
    own = random.normal(size=(2, 3, 8, 8)).astype(np.float32)
    other = random.normal(size=(2, 5, 4, 4)).astype(np.float32)
    loss = HintLoss([("s", "t")], [(3, 5)])
    projection = next(loss.parameters()).detach().numpy()
    projected = np.einsum("oc,nchw->nohw", projection, own)
    pooled = projected.reshape(2, 5, 4, 2, 4, 2).mean((3, 5))

    found = loss({"s": torch.tensor(own)}, None, {"t": torch.tensor(other)})

    assert found.item() == pytest.approx(np.square(pooled - other).mean(), rel=1e-5)
    assert found.requires_grad


def test_a_sum_of_losses_asks_for_all_that_its_parts_need() -> None:
    logits, teacher, labels = (torch.tensor(each) for each in drawn(2))
    loss = WeightedLoss([LabelLoss(), MatchingLoss()], [1.0, 0.5])

    found = loss({"y": logits}, labels, {"y": teacher})

    apart = label_cross_entropy(logits, labels) + 0.5 * (logits - teacher).square().mean()
    assert (loss.needs_labels, loss.needs_teacher) == (True, True)
    assert found.item() == pytest.approx(apart.item())


def test_scores_that_are_not_one_row_a_label_are_refused() -> None:
    with pytest.raises(DataError, match=r"one row of class scores for each of 3 labels, got shape"):
        LabelLoss()({"y": torch.zeros(3, 2, 4)}, torch.zeros(3, dtype=torch.int64), None)


def test_labels_that_are_missing_are_named() -> None:
    with pytest.raises(DataError, match="Expected labels, got none"):
        LabelLoss()({"y": torch.zeros(3, 2)}, None, None)
