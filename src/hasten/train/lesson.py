"""A whole training of a graph: samples divided, the teacher held against the student, a judge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from hasten.data import Samples
from hasten.data.answers import Answers
from hasten.graph import Signature
from hasten.progress import Progress, Quiet
from hasten.train.answers import TeacherAnswers
from hasten.train.held_out import HeldOutJudge
from hasten.train.loop import AfterStep, History, Task, train
from hasten.train.outputs import TrainedOutput
from hasten.train.schedule import Schedule
from hasten.train.teacher import Teacher, matched
from hasten.train.validation import answer_of, axes_of, predictions

if TYPE_CHECKING:
    from hasten.train.losses import Loss
    from hasten.train.module import GraphModule

__all__ = ["Lesson", "fit", "reference_answers"]

#: Samples of which outputs are looked at together.
_ASKED_AT_ONCE = 8


@dataclass(eq=False)
class Lesson:
    """What a module learns: samples, a loss, and who answers for them where the loss asks.

    ``outputs`` says which tensors are trained for the outputs of the signature, where these are
    others: the module gives both. ``hints`` are tensors of the teacher that the loss wants beside
    the outputs. ``identity`` says what else makes this training another one, for its checkpoints.
    """

    samples: Samples
    signature: Signature
    loss: Loss
    teacher: Teacher | None = None
    outputs: Sequence[TrainedOutput] = ()
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

    A share of the samples is held out to judge by: what suits their labels, else how far answers
    agree with the teacher's, and where neither can tell the loss itself. Raises what ``train``
    does, and ModelError for a teacher whose outputs are not the student's.
    """
    progress = progress or Quiet()
    with progress.stage("checking the training samples", None):
        lesson.samples.check(lesson.signature)
        key = _key(module, lesson)
        answers = None
        if lesson.teacher is not None:
            answers = _answers(lesson.teacher, module, lesson, again=not schedule.augment)
    training, held_out = _divided(lesson.samples, schedule)
    judge = None
    if held_out is not None:
        judge = HeldOutJudge(lesson, held_out, answers, schedule.batch)
    task = Task(
        samples=training,
        signature=lesson.signature,
        loss=lesson.loss,
        teacher=None if answers is None else answers.to_batch,
        judge=judge,
        key=key,
        after_step=lesson.after_step,
    )
    return train(module, task, schedule, checkpoints=checkpoints, progress=progress)


def reference_answers(
    module: GraphModule, teacher: Teacher | None, samples: Samples, signature: Signature
) -> Answers:
    """Return the outputs of a signature for samples: the teacher's where there is one.

    Raises ModelError for a teacher whose outputs are not the student's.
    """
    own = answer_of(module, signature)
    axes = axes_of(own, samples, signature)

    def answer(feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        found = own(feed)
        if teacher is None:
            return found
        return matched(teacher.answer(feed), {name: one.shape for name, one in found.items()})

    return predictions(answer, samples, signature, _ASKED_AT_ONCE, axes)


def _divided(samples: Samples, schedule: Schedule) -> tuple[Samples, Samples | None]:
    """Return the samples to train with and those to judge by, None for no such."""
    count = round(schedule.held_out * len(samples))
    if not 1 <= count < len(samples):
        return samples, None
    return samples.split(calibration=len(samples) - count, seed=schedule.seed)


def _answers(
    teacher: Teacher, module: GraphModule, lesson: Lesson, *, again: bool
) -> TeacherAnswers:
    """Ask teacher and student for one sample, to know that they answer alike."""
    feed, _ = next(lesson.samples.select([0]).batches(lesson.signature, 1))
    found = answer_of(module, lesson.signature)(feed)
    return TeacherAnswers(
        teacher,
        feed,
        {name: value.shape for name, value in found.items()},
        together=lesson.samples.per_feed(lesson.signature) or 1,
        hints=lesson.hints,
        trained=lesson.outputs,
        again=again,
    )


def _key(module: GraphModule, lesson: Lesson) -> str:
    """Return what tells this training from others: graph, weights, samples and loss."""
    sha = hashlib.sha256(module.to_graph().SerializeToString(deterministic=True))
    sha.update(f"{lesson.samples.digest} {type(lesson.loss).__name__} {lesson.identity}".encode())
    return sha.hexdigest()
