"""What the steps that train have in common: samples, a teacher, and zeros that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.effect import Effect, Need
from hasten.compress.step import Context
from hasten.data import Samples
from hasten.errors import OptionError, RefusedError
from hasten.train.loss_names import LOSSES
from hasten.train.schedule import LossSettings, Schedule

if TYPE_CHECKING:
    import onnx
    import torch

    from hasten.graph import Model
    from hasten.train import GraphModule, History, Teacher, TrainedOutput
    from hasten.train.losses import Loss

__all__ = [
    "Aim",
    "learn",
    "module_of",
    "needs_with",
    "objective",
    "require_alpha",
    "teacher_of",
    "training_samples",
]

#: Samples from which it is told what outputs mean.
_LOOKED_AT = 16
#: A step whose zeros are to stay: what it leaves out would come back with the first gradient.
_SPARSIFY = "sparsify"


def require_alpha(alpha: float) -> None:
    """Raise OptionError unless this can be the share of the loss that labels have."""
    if not 0 <= alpha <= 1:
        raise OptionError(expected="a share from 0 to 1", got=str(alpha), where="alpha")


def needs_with(effect: Effect, alpha: float, loss: str) -> frozenset[Need]:
    """Return what a step needs: labels too, unless the teacher's answers are all that counts.

    A loss of the user's own takes what there is.
    """
    return effect.needs | ({"labels"} if alpha and loss in LOSSES else set())


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


@dataclass(frozen=True)
class Aim:
    """What a step compares: the share of labels, and how softly classes are compared.

    With ``other_weight`` the divergence is the decoupled one.
    """

    alpha: float
    temperature: float
    other_weight: float | None = None


def module_of(graph: onnx.ModelProto, hints: Sequence[str] = ()) -> GraphModule:
    """Return the module of a graph with its outputs, what these are trained by, and hints."""
    from hasten.train import GraphModule, logits_of

    outputs = [output.name for output in graph.graph.output]
    return GraphModule(graph, outputs=dict.fromkeys([*outputs, *logits_of(graph), *hints]))


def objective(
    module: GraphModule,
    model: Model,
    config: LossSettings,
    context: Context,
    *,
    aim: Aim,
    teacher: Teacher | None,
    doing: str,
) -> tuple[Loss, list[TrainedOutput]]:
    """Return the loss that fits a model's outputs, labels and teacher, and what is trained of each.

    Raises as ``hasten.train.Objective`` and ``own_loss`` do.
    """
    from hasten.train import Objective, OwnObjective, trained_outputs
    from hasten.train.lesson import reference_answers
    from hasten.train.loss_names import own_loss

    samples = training_samples(context, doing)
    # From all over: samples may be sorted by their class.
    spread = np.linspace(0, len(samples) - 1, min(_LOOKED_AT, len(samples)))
    few = samples.select(spread.astype(np.int64))
    reference = reference_answers(module, teacher, few, model.signature)
    weights = dict(config.output_weights)
    outputs = trained_outputs(model.graph, module.graph, reference, weights)
    own = own_loss(config.loss)
    if own is not None:
        return OwnObjective(config.loss, own, list(reference), taught=teacher is not None), outputs
    found = Objective(
        outputs,
        loss=config.loss,
        alpha=aim.alpha,
        temperature=aim.temperature,
        smoothing=config.smoothing,
        class_weights=config.class_weights,
        other_weight=aim.other_weight,
        labels=samples.ground_truth,
    )
    context.notes.append(f"{doing}: compared by {found.title}")
    return found, outputs


def learn(
    module: GraphModule,
    model: Model,
    loss: Loss,
    schedule: Schedule,
    context: Context,
    *,
    teacher: Teacher | None = None,
    outputs: Sequence[TrainedOutput] = (),
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
        outputs=outputs,
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
            is_loss = history.judged_by == "loss"
            figure = f"loss {-best:.4g}" if is_loss else f"{best:.4f}"
            kept = f"; epoch {history.best_epoch} was best, {figure} on the samples held out"
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
