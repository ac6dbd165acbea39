"""How an output is compared with a teacher's, by what it means."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as f

from hasten.data.meaning import Meaning
from hasten.train import terms
from hasten.train.outputs import TrainedOutput

__all__ = ["Term", "teacher_term"]

#: Compares the tensor of a student with the teacher's.
Term = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def teacher_term(output: TrainedOutput, loss: str, temperature: float) -> tuple[str, Term] | None:
    """Return what an output is compared by, and how it is called; None where it cannot be.

    ``loss`` is a name of ``LOSSES``: one that the output has no use for gives way to what fits it.
    """
    meaning = output.meaning
    if meaning.kind in {"detections", "text"}:
        return None
    independent = meaning.kind in {"probabilities", "mask"} and output.axis is None
    found: tuple[str, Term] = "squared difference", partial(_in_units, spread=output.spread)
    if loss in {"mse", "l1"}:
        term = terms.squared if loss == "mse" else terms.absolute
        found = f"{loss} to the teacher's", partial(_squashed, output=output, term=term)
    elif loss == "bce" or (independent and not meaning.exclusive):
        logits = output.squash == "sigmoid"
        found = "binary divergence", partial(terms.bernoulli_divergence, logits=logits)
    elif loss == "iou" and meaning.kind == "boxes":
        found = "overlap", partial(terms.generalized_iou, form=meaning.box_format)
    elif output.axis is not None:
        term = partial(terms.divergence, axis=output.axis, temperature=temperature)
        found = f"divergence of classes along axis {output.axis}", term
    elif meaning.kind == "embedding":
        found = "cosine", partial(terms.cosine, axis=meaning.class_axis or -1)
    elif meaning.kind == "boxes_and_scores":
        found = "boxes and scores", partial(_boxes_and_scores, meaning=meaning)
    return found


def _squashed(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    output: TrainedOutput,
    term: Term,
) -> torch.Tensor:
    """Compare what the model gives, not what goes into its softmax or sigmoid."""
    if output.squash == "sigmoid":
        student, teacher = student.sigmoid(), teacher.sigmoid()
    elif output.squash == "softmax":
        axis = -1 if output.axis is None else output.axis
        student, teacher = f.softmax(student, dim=axis), f.softmax(teacher, dim=axis)
    return term(student, teacher)


def _in_units(student: torch.Tensor, teacher: torch.Tensor, *, spread: float) -> torch.Tensor:
    return terms.squared(student, teacher) / spread


def _boxes_and_scores(
    student: torch.Tensor, teacher: torch.Tensor, *, meaning: Meaning
) -> torch.Tensor:
    """Compare numbers of boxes in units of their variance, and scores each for itself."""
    both = [each.movedim(meaning.box_axis, -1) for each in (student, teacher)]
    columns = range(meaning.box_start, meaning.box_start + 4)
    boxes = [each[..., columns.start : columns.stop] for each in both]
    others = [at for at in range(both[0].shape[-1]) if at not in columns]
    scores = [each[..., others] for each in both]
    apart = terms.squared(*boxes) / boxes[1].var().clamp(min=1e-12)
    return apart + terms.bernoulli_divergence(scores[0], scores[1], logits=False)
