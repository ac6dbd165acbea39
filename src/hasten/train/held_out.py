"""What judges a module after each epoch, on samples that it is not trained on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from hasten.data import Metric, Samples, resolve_metric
from hasten.data.answers import Answers, SampleAxis
from hasten.errors import DataError, MissingExtraError
from hasten.train.answers import TeacherAnswers
from hasten.train.loop import encoded
from hasten.train.validation import answer_of, axes_of, predictions, score

if TYPE_CHECKING:
    from hasten.train.lesson import Lesson

__all__ = ["HeldOutJudge"]


class HeldOutJudge:
    """Judges a module by what suits the labels of samples, else by the teacher's answers.

    Where neither can tell, since the outputs do not fit the metric or it is not installed, it is
    the loss: ``name`` says which, once it was asked.
    """

    def __init__(
        self, lesson: Lesson, samples: Samples, answers: TeacherAnswers | None, batch: int
    ) -> None:
        self._lesson, self._samples, self._answers, self._batch = lesson, samples, answers, batch
        self._reference: Answers | None = None
        self._axes: dict[str, SampleAxis] = {}
        self._metric: Metric | None = None
        self._asked = False

    @property
    def name(self) -> str:
        """The metric, or ``loss``."""
        return "loss" if self._metric is None else self._metric.name

    def __call__(self, module: nn.Module) -> float:
        """Return the figure of a module, where higher is better."""
        if not self._asked:
            self._asked = True
            figure = self._choose(module)
            if figure is not None:
                return figure
        if self._metric is not None:
            return self._score(module)
        return -_mean_loss(module, self._lesson, self._samples, self._answers, self._batch)

    def _choose(self, module: nn.Module) -> float | None:
        """Take the metric that fits, and return its first figure; None where none does."""
        signature = self._lesson.signature
        truth = self._samples.ground_truth
        if truth is None and self._answers is None:
            return None
        self._axes = axes_of(answer_of(module, signature), self._samples, signature)
        if truth is None and self._answers is not None:
            said = predictions(self._answers.to, self._samples, signature, self._batch, self._axes)
            self._reference = Answers({spec.name: said[spec.name] for spec in signature.outputs})
        try:
            self._metric = resolve_metric(None, self._samples)
            return self._score(module)
        except (DataError, MissingExtraError):
            self._metric = None
            return None

    def _score(self, module: nn.Module) -> float:
        assert self._metric is not None  # noqa: S101 - it is asked where there is one
        return score(
            module,
            self._samples,
            self._lesson.signature,
            self._metric,
            batch=self._batch,
            axes=self._axes,
            reference=self._reference,
        )


def _mean_loss(
    module: nn.Module, lesson: Lesson, samples: Samples, answers: TeacherAnswers | None, batch: int
) -> float:
    """Return the mean loss over the samples, in evaluation mode."""
    device = next(module.parameters()).device
    rows = samples.per_feed(lesson.signature) or batch
    was_training, total, count = module.training, 0.0, 0
    module.eval()
    with torch.no_grad():
        for start in range(0, len(samples), rows):
            chosen = np.arange(start, start + rows) % len(samples)
            feed = samples.feed(lesson.signature, chosen)
            inputs = {name: torch.tensor(one, device=device) for name, one in feed.items()}
            teacher = None
            if answers is not None and lesson.loss.needs_teacher:
                said = answers.to(feed)
                teacher = {name: torch.tensor(one, device=device) for name, one in said.items()}
            labels = encoded(lesson.loss, samples, chosen, device)
            total += float(lesson.loss(module(inputs), labels, teacher)) * len(chosen)
            count += len(chosen)
    module.train(was_training)
    return total / count if math.isfinite(total) else math.inf
