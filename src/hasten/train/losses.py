"""Losses: against labels, against a teacher's answers, and against a teacher's features.

Each is a module that takes the outputs of the student, the labels (int64 [n] or None) and the
outputs of the teacher (or None), and returns a scalar. Logits are float [n, classes]. A loss that
fits outputs and labels of any kind is in ``hasten.train.objective``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import torch
from torch import nn
from torch.nn import functional as f

from hasten.errors import DataError
from hasten.train import terms
from hasten.train.label_terms import plain_labels
from hasten.train.outputs import class_axis

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DecoupledLoss",
    "DistillationLoss",
    "HintLoss",
    "LabelLoss",
    "Loss",
    "MatchingLoss",
    "WeightedLoss",
    "decoupled_divergence",
    "distillation_divergence",
    "label_cross_entropy",
]

Outputs: TypeAlias = "Mapping[str, torch.Tensor]"


class Loss(Protocol):
    """What the training loop asks of a loss; its parameters, if any, are trained along."""

    needs_labels: bool
    needs_teacher: bool

    def __call__(
        self, outputs: Outputs, labels: torch.Tensor | None, teacher: Outputs | None
    ) -> torch.Tensor:
        """Return the loss, a scalar."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what is trained along."""
        ...


def label_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross entropy against labels, of which ``smoothing`` is spread over all classes.

    Source: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016 (arXiv 1512.00567),
    section 7.
    """
    if logits.ndim != 2 or len(logits) != len(labels):  # noqa: PLR2004 - [n, classes]
        raise DataError(
            expected=f"one row of class scores for each of {len(labels)} labels",
            got=f"shape {list(logits.shape)}",
            where="the first output",
        )
    return f.cross_entropy(logits, labels, label_smoothing=smoothing)


def distillation_divergence(
    logits: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> torch.Tensor:
    """``T^2 * KL(teacher || student)`` of the softened classes, a mean over samples and places.

    Classes are last, or in images, [n, classes, height, width], first. Raises DataError for scores
    of one class, whose softmax is 1 whatever they are.
    """
    axis = class_axis(logits.shape)
    if axis is None:
        raise DataError(
            expected="scores of two classes or more along an axis",
            got=f"shape {list(logits.shape)}",
            where="the first output",
            hint="an hasten.train.Objective takes outputs of any kind",
        )
    return terms.divergence(logits, teacher, axis, temperature)


def decoupled_divergence(
    logits: torch.Tensor,
    teacher: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
    other_weight: float,
) -> torch.Tensor:
    """``T^2 * (TCKD + other_weight * NCKD)``: the target class against all others, and these apart.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022 (arXiv 2203.08679), equation
    7 with alpha 1 and beta ``other_weight``.
    """
    target = f.one_hot(labels, logits.shape[-1]).bool()
    student, wanted = (f.log_softmax(each / temperature, dim=-1) for each in (logits, teacher))
    least = torch.finfo(logits.dtype).min
    binary = _divergence(_against_others(student, target), _against_others(wanted, target))
    others = _divergence(
        *(
            f.log_softmax((each / temperature).masked_fill(target, least), dim=-1)
            for each in (logits, teacher)
        )
    )
    return temperature**2 * (binary + other_weight * others)


def _against_others(log_share: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Log probabilities of the target class and of all others together, [n, 2]."""
    least = torch.finfo(log_share.dtype).min
    others = torch.logsumexp(log_share.masked_fill(target, least), dim=-1)
    return torch.stack([log_share[target], others], dim=-1)


def _divergence(student: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return f.kl_div(student, wanted, reduction="batchmean", log_target=True)


class LabelLoss(nn.Module):
    """Cross entropy of the first output against labels."""

    needs_labels = True
    needs_teacher = False

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(
        self, outputs: Outputs, labels: torch.Tensor | None, teacher: Outputs | None
    ) -> torch.Tensor:
        """Return the loss."""
        del teacher
        return label_cross_entropy(_first(outputs), _given(labels), self.smoothing)


class DistillationLoss(nn.Module):
    """``alpha * CE + (1 - alpha) * T^2 * KL`` of the first output; alpha 0 needs no labels."""

    needs_teacher = True

    def __init__(self, alpha: float = 0.0, temperature: float = 4.0, smoothing: float = 0.0):
        super().__init__()
        self.alpha, self.temperature, self.smoothing = alpha, temperature, smoothing
        self.needs_labels = alpha > 0

    def forward(
        self, outputs: Outputs, labels: torch.Tensor | None, teacher: Outputs | None
    ) -> torch.Tensor:
        """Return the loss."""
        logits = _first(outputs)
        learnt = distillation_divergence(logits, _first(_answers(teacher)), self.temperature)
        if not self.alpha:
            return learnt
        told = label_cross_entropy(logits, _given(labels), self.smoothing)
        return self.alpha * told + (1 - self.alpha) * learnt


class DecoupledLoss(nn.Module):
    """``alpha * CE + (1 - alpha) * T^2 * (TCKD + other_weight * NCKD)`` of the first output.

    Without labels the teacher's largest class is the target; alpha has to be 0 then.
    """

    needs_teacher = True

    def __init__(
        self,
        alpha: float = 0.0,
        temperature: float = 4.0,
        other_weight: float = 8.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.alpha, self.temperature, self.smoothing = alpha, temperature, smoothing
        self.other_weight = other_weight
        self.needs_labels = alpha > 0

    def forward(
        self, outputs: Outputs, labels: torch.Tensor | None, teacher: Outputs | None
    ) -> torch.Tensor:
        """Return the loss."""
        logits, wanted = _first(outputs), _first(_answers(teacher))
        target = wanted.argmax(-1) if labels is None else labels
        learnt = decoupled_divergence(logits, wanted, target, self.temperature, self.other_weight)
        if not self.alpha:
            return learnt
        told = label_cross_entropy(logits, _given(labels), self.smoothing)
        return self.alpha * told + (1 - self.alpha) * learnt


class MatchingLoss(nn.Module):
    """Mean squared difference of every output from the teacher's: for outputs of any kind."""

    needs_labels = False
    needs_teacher = True

    def forward(
        self, outputs: Outputs, labels: torch.Tensor | None, teacher: Outputs | None
    ) -> torch.Tensor:
        """Return the loss."""
        del labels
        wanted = _answers(teacher)
        each = [f.mse_loss(outputs[name], value) for name, value in wanted.items()]
        return torch.stack(each).mean()


class HintLoss(nn.Module):
    """Mean squared difference of features from the teacher's, after a learnt 1x1 projection.

    ``pairs`` name tensors of student and teacher; ``widths`` are their channels, axis 1 of [n,
    channels, ...]. Features of another height and width than the teacher's are averaged to its.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015 (arXiv 1412.6550).
    """

    needs_labels = False
    needs_teacher = True

    def __init__(
        self, pairs: Sequence[tuple[str, str]], widths: Sequence[tuple[int, int]], seed: int = 0
    ) -> None:
        super().__init__()
        self.pairs = list(pairs)
        random = torch.Generator().manual_seed(seed)
        self.projections = nn.ParameterList(
            torch.randn(wide, narrow, generator=random) / narrow**0.5 for narrow, wide in widths
        )

    def forward(
        self, outputs: Outputs, labels: torch.Tensor | None, teacher: Outputs | None
    ) -> torch.Tensor:
        """Return the loss."""
        del labels
        wanted = _answers(teacher)
        each = []
        for (own, other), projection in zip(self.pairs, self.projections, strict=True):
            features = torch.einsum("oc,nc...->no...", projection, outputs[own])
            if features.ndim == 4 and features.shape != wanted[other].shape:  # noqa: PLR2004
                height, width = wanted[other].shape[2:]
                features = f.adaptive_avg_pool2d(features, (height, width))
            each.append(f.mse_loss(features, wanted[other]))
        return torch.stack(each).mean()


class WeightedLoss(nn.Module):
    """A weighted sum of losses."""

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.weights = list(weights)
        self.needs_labels = any(loss.needs_labels for loss in losses)
        encodes = [loss.encode for loss in losses if hasattr(loss, "encode")]
        #: How labels become what the losses take.
        self.encode = encodes[0] if encodes else plain_labels
        self.needs_teacher = any(loss.needs_teacher for loss in losses)

    def forward(
        self, outputs: Outputs, labels: torch.Tensor | None, teacher: Outputs | None
    ) -> torch.Tensor:
        """Return the loss."""
        total = torch.zeros(())
        for loss, weight in zip(self.losses, self.weights, strict=True):
            total = total + weight * cast("torch.Tensor", loss(outputs, labels, teacher))
        return total


def _first(outputs: Outputs) -> torch.Tensor:
    return next(iter(outputs.values()))


def _given(labels: torch.Tensor | None) -> torch.Tensor:
    if labels is None:
        raise DataError(expected="labels", got="none", where="training samples")
    return labels


def _answers(teacher: Outputs | None) -> Outputs:
    if teacher is None:
        raise DataError(expected="a teacher's outputs", got="none", where="training loss")
    return teacher
