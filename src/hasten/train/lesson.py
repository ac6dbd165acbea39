"""A whole training of a graph: samples divided, the teacher held against the student, a judge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from hasten.data import METRICS, Samples
from hasten.graph import Signature
from hasten.progress import Progress, Quiet
from hasten.train.answers import Answers
from hasten.train.loop import AfterStep, History, Task, train
from hasten.train.schedule import Schedule
from hasten.train.teacher import Teacher
from hasten.train.validation import predictions, score

if TYPE_CHECKING:
    import onnx

    from hasten.train.losses import Loss
    from hasten.train.module import GraphModule

__all__ = ["Lesson", "fit", "logits_of"]

#: Nodes through which class scores go unchanged, but for rounding.
_TRANSPARENT = frozenset({"FakeQuantize", "Identity"})


@dataclass(eq=False)
class Lesson:
    """What a module learns: samples, a loss, and who answers for them where the loss asks.

    ``hints`` are tensors of the teacher that the loss wants beside the outputs. ``identity`` says
    what else makes this training another one, for its checkpoints.
    """

    samples: Samples
    signature: Signature
    loss: Loss
    teacher: Teacher | None = None
    hints: Sequence[str] = ()
    identity: str = ""
    after_step: AfterStep | None = None


def fit(
    module: GraphModule,
    lesson: Lesson,
    schedule: Schedule,
    *,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> History:
    """Train a module as the schedule says, and leave it with the weights that were best.

    A share of the samples is held out to judge by: top-1 where there are labels, else the share of
    answers that agree with the teacher's. Raises what ``train`` does, and ModelError for a teacher
    whose outputs are not the student's.
    """
    progress = progress or Quiet()
    with progress.stage("checking the training samples", None):
        lesson.samples.check(lesson.signature)
        key = _key(module, lesson)
        answers = None
        if lesson.teacher is not None:
            answers = _answers(lesson.teacher, module, lesson, again=not schedule.augment)
    training, held_out = _divided(lesson.samples, schedule)
    task = Task(
        samples=training,
        signature=lesson.signature,
        loss=lesson.loss,
        teacher=None if answers is None else answers.to_batch,
        judge=None if held_out is None else _judge(lesson, held_out, answers, schedule.batch),
        key=key,
        after_step=lesson.after_step,
    )
    return train(module, task, schedule, checkpoints=checkpoints, progress=progress)


def logits_of(graph: onnx.ModelProto) -> list[str]:
    """Return the outputs of a graph to train by: the first one before the softmax that ends it."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    first, *others = [output.name for output in graph.graph.output]
    at = first
    while at in makers and makers[at].op_type in _TRANSPARENT:
        at = makers[at].input[0]
    if at in makers and makers[at].op_type == "Softmax":
        first = makers[at].input[0]
    return [first, *others]


def _divided(samples: Samples, schedule: Schedule) -> tuple[Samples, Samples | None]:
    """Return the samples to train with and those to judge by, None for no such."""
    count = round(schedule.held_out * len(samples))
    if not 1 <= count < len(samples):
        return samples, None
    return samples.split(calibration=len(samples) - count, seed=schedule.seed)


def _answers(teacher: Teacher, module: GraphModule, lesson: Lesson, *, again: bool) -> Answers:
    """Ask teacher and student for one sample, to know that they answer alike."""
    feed, _ = next(lesson.samples.select([0]).batches(lesson.signature, 1))
    count = len(lesson.signature.outputs)
    device = next(module.parameters()).device
    with torch.no_grad():
        found = module({name: torch.tensor(value, device=device) for name, value in feed.items()})
    shapes = {name: tuple(found[name].shape) for name in module.output_names[:count]}
    made_by_softmax = module.output_names[0] != lesson.signature.outputs[0].name
    return Answers(teacher, feed, shapes, hints=lesson.hints, logits=made_by_softmax, again=again)


def _judge(
    lesson: Lesson, held_out: Samples, answers: Answers | None, batch: int
) -> Callable[[nn.Module], float]:
    reference = None
    if held_out.labels is None and answers is not None:
        said = predictions(answers.to, held_out, lesson.signature, batch)
        reference = {name: value for name, value in said.items() if name not in lesson.hints}
    metric = METRICS["top1" if held_out.labels is not None else "fidelity"]

    def judge(module: nn.Module) -> float:
        return score(module, held_out, lesson.signature, metric, batch=batch, reference=reference)

    return judge


def _key(module: GraphModule, lesson: Lesson) -> str:
    """Return what tells this training from others: graph, weights, samples and loss."""
    sha = hashlib.sha256(module.to_graph().SerializeToString(deterministic=True))
    sha.update(f"{lesson.samples.digest} {type(lesson.loss).__name__} {lesson.identity}".encode())
    return sha.hexdigest()
