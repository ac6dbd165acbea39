"""What the steps that train have in common: samples, a teacher, and zeros that stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.compress.effect import Effect, Need
from hasten.compress.step import Context
from hasten.data import Samples
from hasten.errors import OptionError, RefusedError
from hasten.train.schedule import Schedule

if TYPE_CHECKING:
    import torch

    from hasten.graph import Model
    from hasten.train import GraphModule, History, Teacher
    from hasten.train.losses import Loss

__all__ = ["learn", "needs_with", "require_alpha", "teacher_of", "training_samples"]

#: A step whose zeros are to stay: what it leaves out would come back with the first gradient.
_SPARSIFY = "sparsify"


def require_alpha(alpha: float) -> None:
    """Raise OptionError unless this can be the share of the loss that labels have."""
    if not 0 <= alpha <= 1:
        raise OptionError(expected="a share from 0 to 1", got=str(alpha), where="alpha")


def needs_with(effect: Effect, alpha: float) -> frozenset[Need]:
    """Return what a step needs: labels too, unless the teacher's answers are all that counts."""
    return effect.needs | ({"labels"} if alpha else set())


def training_samples(context: Context, doing: str) -> Samples:
    """Return the samples to train with; RefusedError where there are none."""
    if context.training is None:
        raise RefusedError(f"{doing} needs training samples: give --train")
    return context.training


def teacher_of(context: Context, doing: str) -> Model | torch.nn.Module | str:
    """Return the teacher; RefusedError where there is none."""
    if context.teacher is None:
        raise RefusedError(f"{doing} needs a teacher: give --teacher")
    return context.teacher


def learn(
    module: GraphModule,
    model: Model,
    loss: Loss,
    schedule: Schedule,
    context: Context,
    *,
    teacher: Teacher | None = None,
    hints: Sequence[str] = (),
    doing: str,
) -> History:
    """Train a module made of the model.

    Weights that an earlier step has put to zero stay so. Checkpoints are in a folder of their own
    by the name of the step.
    """
    from hasten.train import Lesson, fit

    lesson = Lesson(
        samples=training_samples(context, doing),
        signature=model.signature,
        loss=loss,
        teacher=teacher,
        hints=hints,
        identity=repr(schedule),
        after_step=_hold_zeros(module, model),
    )
    folder = _folder(context, schedule)
    history = fit(module, lesson, schedule, checkpoints=folder, progress=context.progress)
    context.notes.append(f"{doing}: {_told(history)}")
    return history


def _told(history: History) -> str:
    """Say how a training went, in one line."""
    ending = {
        "done": "",
        "early": ", stopped early",
        "time": ", stopped when its time was over",
    }[history.stopped]
    going_on = f", going on after epoch {history.resumed_from}" if history.resumed_from else ""
    best = history.epochs[history.best_epoch - 1].metric if history.best_epoch else None
    kept = ""
    if any(epoch.metric is not None for epoch in history.epochs):
        kept = "; nothing was better than the weights it began with"
        if best is not None:
            kept = f"; epoch {history.best_epoch} was best, {best:.4f} on the samples held out"
    return f"{len(history.epochs)} epochs{going_on}{ending}{kept}"


def _folder(context: Context, schedule: Schedule) -> Path | None:
    if context.checkpoints is None:
        return None
    return context.checkpoints / type(schedule).__name__.lower()


def _hold_zeros(module: GraphModule, model: Model) -> _Zeros | None:
    """Return what puts weights back to zero after each step, where a step has made the zeros."""
    if all(step.step != _SPARSIFY for step in model.steps):
        return None
    return _Zeros(module)


class _Zeros:
    """The zeros of a module's weights as it was given; biases have none to keep."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._masks = {
            name: parameter.detach() == 0
            for name, parameter in module.named_parameters()
            if parameter.ndim > 1
        }

    def __call__(self, module: torch.nn.Module, step: int) -> None:
        import torch

        del step
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name in self._masks:
                    parameter.masked_fill_(self._masks[name].to(parameter.device), 0.0)
