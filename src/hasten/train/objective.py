"""A loss that fits: of every output with the teacher's, and of one with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hasten.data.labels import Labels
from hasten.errors import DataError, HastenError, RefusedError, one_line
from hasten.train.label_terms import LabelTerm, label_term, plain_labels
from hasten.train.loss_names import OwnLoss
from hasten.train.losses import decoupled_divergence
from hasten.train.outputs import TrainedOutput
from hasten.train.teacher_terms import Term, teacher_term

if TYPE_CHECKING:
    from hasten.train.losses import Outputs

__all__ = ["Objective", "OwnObjective"]


class Objective(nn.Module):
    """``alpha * labels + (1 - alpha) * teacher``: a weighted mean over outputs of the latter.

    What an output is decides how it is compared with the teacher's: classes by their divergence
    along the axis where they stand, independent ones each for itself, directions by their cosine,
    values by the squared difference in units of their variance over samples. Labels are compared
    with the first output that fits them. A loss that is named is taken for both parts where it can
    be. With ``other_weight`` the divergence is the decoupled one, of labels where it is told them,
    else of the teacher's largest class.

    Raises RefusedError where no output can be compared, DataError for labels that fit none.
    """

    def __init__(
        self,
        outputs: Sequence[TrainedOutput],
        *,
        loss: str = "auto",
        alpha: float = 0.0,
        temperature: float = 4.0,
        smoothing: float = 0.0,
        class_weights: tuple[float, ...] = (),
        other_weight: float | None = None,
        labels: Labels | None = None,
    ) -> None:
        super().__init__()
        self._temperature, self._other_weight = temperature, other_weight
        self.needs_labels, self.needs_teacher = alpha > 0, alpha < 1
        self._alpha = alpha
        self._taught: list[tuple[TrainedOutput, str, Term]] = []
        self._told: LabelTerm | None = None
        if self.needs_teacher:
            found = [(one, teacher_term(one, loss, temperature)) for one in outputs if one.weight]
            self._taught = [(one, *term) for one, term in found if term is not None]
            if not self._taught:
                kinds = ", ".join(f"{one.name} is {one.meaning.kind}" for one in outputs)
                raise RefusedError(
                    "the loss cannot move: no output of floats can be compared with the teacher's"
                    f" ({kinds or 'there is none'})"
                )
        if self.needs_labels:
            if labels is None:
                raise DataError(expected="labels to train with", got="none", where="training loss")
            self._told = label_term(outputs, labels, loss, smoothing, class_weights)

    @property
    def title(self) -> str:
        """What is compared, in one line."""
        told = [] if self._told is None else [f"{self._told.title} of {self._told.output.name}"]
        return ", ".join([*told, *(f"{title} of {one.name}" for one, title, _ in self._taught)])

    def encode(self, labels: Labels) -> Any:
        """Return labels as ``forward`` takes them."""
        return None if self._told is None else self._told.encode(labels)

    def forward(self, outputs: Outputs, labels: Any, teacher: Outputs | None) -> torch.Tensor:
        """Return the loss; ``outputs`` and ``teacher`` hold the tensors that are trained."""
        parts = []
        if self._told is not None:
            told = self._told.output
            compared = self._told.compare(told.told_apart(outputs[told.tensor]), labels)
            parts.append(self._alpha * compared)
        if self._taught:
            if teacher is None:
                raise DataError(expected="a teacher's outputs", got="none", where="training loss")
            share = (1 - self._alpha) / sum(one.weight for one, _, _ in self._taught)
            for one, _, term in self._taught:
                pair = one.told_apart(outputs[one.tensor]), one.told_apart(teacher[one.tensor])
                decoupled = self._decoupled(one, *pair, labels)
                apart = term(*pair) if decoupled is None else decoupled
                parts.append(share * one.weight * apart)
        return torch.stack(parts).sum()

    def _decoupled(
        self, output: TrainedOutput, student: torch.Tensor, teacher: torch.Tensor, labels: Any
    ) -> torch.Tensor | None:
        """Weigh wrong classes by ``other_weight``, where there is one and each row has a class."""
        if self._other_weight is None or output.axis is None:
            return None
        own, wanted = (each.movedim(output.axis, -1).flatten(0, -2) for each in (student, teacher))
        target = wanted.argmax(-1)
        told = self._told
        if told is not None and told.output.name == output.name and len(labels) == len(target):
            target = labels
        return decoupled_divergence(own, wanted, target, self._temperature, self._other_weight)


class OwnObjective(nn.Module):
    """The user's own loss: a function of outputs by name, labels, and the teacher's outputs.

    Labels and teacher are None where there are none. Raises RefusedError where the function fails
    or returns no scalar tensor that depends on the outputs.
    """

    needs_labels = False

    def __init__(
        self, name: str, function: OwnLoss, outputs: Sequence[str], *, taught: bool
    ) -> None:
        super().__init__()
        self._outputs = list(outputs)
        self.needs_teacher = taught
        self.title = f"loss {name}"
        self._function = function

    def encode(self, labels: Labels) -> Any:
        """Return labels as tensors, texts, or dicts of boxes and classes."""
        return plain_labels(labels)

    def forward(self, outputs: Outputs, labels: Any, teacher: Outputs | None) -> torch.Tensor:
        """Return the loss."""
        try:
            found = self._function(
                dict(outputs), labels, None if teacher is None else dict(teacher)
            )
        except HastenError:
            raise
        except (Exception, SystemExit) as error:  # whatever the user's function raises
            raise RefusedError(f"{self.title} failed: {one_line(error)}") from error
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            shape = list(found.shape) if isinstance(found, torch.Tensor) else ""
            got = f"a {type(found).__name__}{f' of shape {shape}' if shape else ''}"
            raise RefusedError(f"{self.title} must return a scalar tensor, got {got}")
        return found.reshape(())
