"""The training loop: minibatches, one step after another, judged and kept after every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hasten.data import Samples
from hasten.data.labels import Labels
from hasten.errors import DataError, OptionError, RefusedError
from hasten.graph import Signature
from hasten.progress import Progress, Quiet
from hasten.train.augmentation import require_images
from hasten.train.batches import Batch, Batches
from hasten.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hasten.train.label_terms import plain_labels
from hasten.train.memory import kept_memory
from hasten.train.schedule import Schedule, learning_rate_at

if TYPE_CHECKING:
    from hasten.progress import Advance
    from hasten.train.losses import Loss

__all__ = ["AfterStep", "EpochRecord", "History", "Judge", "Task", "encoded", "train"]

#: Called after each step with the module and the number of steps done, to hold masks in place.
AfterStep: TypeAlias = Callable[[nn.Module, int], None]


class Judge(Protocol):
    """Judges a module after each epoch, where higher is better."""

    @property
    def name(self) -> str:
        """What it judges by."""
        ...

    def __call__(self, module: nn.Module) -> float:
        """Return the figure of a module."""
        ...


#: What a teacher says of a part of a minibatch.
Asked: TypeAlias = Callable[[Batch], Mapping[str, np.ndarray]]


class EpochRecord(msgspec.Struct, frozen=True):
    """One epoch: its mean loss, and the metric after it where samples were held out."""

    loss: float
    metric: float | None = None


class History(msgspec.Struct, frozen=True):
    """How a training went.

    ``best_epoch`` counts from 1, and is 0 where nothing was better than the weights it began with;
    ``stopped`` says what ended it: ``done``, ``early`` or ``time``. ``judged_by`` is the metric of
    the samples held out; the ``loss`` is negative there, since higher is better.
    """

    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    stopped: str
    resumed_from: int = 0
    judged_by: str = ""


@dataclass(eq=False)
class Task:
    """What is learnt: samples for a graph of this signature, a loss, and who judges.

    ``teacher`` answers for a part of a minibatch. ``judge`` is asked after each epoch. ``key``
    tells this training from others in its checkpoints.
    """

    samples: Samples
    signature: Signature
    loss: Loss
    teacher: Asked | None = None
    judge: Judge | None = None
    key: str = ""
    after_step: AfterStep | None = None


def train(
    module: nn.Module,
    task: Task,
    schedule: Schedule,
    *,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> History:
    """Train a module of graph inputs to outputs, by name; it is left with the best weights.

    With ``checkpoints``, a folder, it goes on from where it stopped, to the same weights as
    without interruption. Raises DataError where labels are missing or do not fit, OptionError for
    a device that is not here, RefusedError where the loss is no finite number (the module is left
    as it was after the last good epoch), OutputError where a checkpoint cannot be written.
    """
    _require(task, schedule)
    if not any(one.requires_grad for one in module.parameters()):
        raise RefusedError("there is nothing to train: all weights are frozen")
    module.to(schedule.device)
    devices = [torch.cuda.current_device()] if schedule.device == "cuda" else []
    with torch.random.fork_rng(devices=devices), kept_memory():
        run = _Run(module, task, schedule, checkpoints)
        history = run.through(progress or Quiet())
    module.eval()
    return history


def _require(task: Task, schedule: Schedule) -> None:
    if schedule.device == "cuda" and not torch.cuda.is_available():
        raise OptionError(expected="a device that is here: cpu", got="cuda", where="device")
    if task.loss.needs_labels and task.samples.ground_truth is None:
        raise DataError(expected="labels to train with", got="none", where=task.samples.source)
    if task.loss.needs_teacher and task.teacher is None:
        raise DataError(expected="a teacher", got="none", where="training loss")
    require_images(task.signature, schedule.augment)


class _Run:
    """The state of one training: optimizer, checkpoint and the way through the epochs."""

    def __init__(
        self, module: nn.Module, task: Task, schedule: Schedule, folder: Path | None
    ) -> None:
        self._module, self._task, self._schedule, self._folder = module, task, schedule, folder
        self._batches = Batches(task.samples, task.signature, schedule)
        self._loss: Any = task.loss
        if isinstance(self._loss, nn.Module):
            self._loss.to(schedule.device)
        self._optimizer = torch.optim.AdamW(
            _groups([*module.parameters(), *task.loss.parameters()], schedule.weight_decay),
            lr=schedule.learning_rate,
        )
        self._deadline = math.inf
        if schedule.time_s is not None:
            self._deadline = time.monotonic() + schedule.time_s
        self._state = self._resumed() or self._begun()

    def through(self, progress: Progress) -> History:
        """Run the epochs that are left."""
        resumed, epochs = self._state.epoch, self._schedule.epochs
        stopped = "done"
        with progress.stage("training", epochs * self._batches.count) as advance:
            advance(resumed * self._batches.count)
            for epoch in range(resumed, epochs):
                if self._patience_is_over(epoch):
                    stopped = "early"
                    break
                loss, in_time = self._epoch(epoch, advance)
                self._keep(epoch + 1, loss)
                if not in_time:
                    stopped = "time"
                    break
        best = self._state.best
        self._module.load_state_dict(self._state.module if best is None else best)
        records = tuple(msgspec.convert(one, EpochRecord) for one in self._state.records)
        last = self._state.epoch
        judge = self._task.judge
        return History(
            records,
            last if best is None else self._state.best_epoch,
            stopped,
            resumed,
            "" if judge is None else judge.name,
        )

    def _epoch(self, epoch: int, advance: Advance) -> tuple[float, bool]:
        """Train one epoch; returns its mean loss, and whether there was time for all of it."""
        schedule, count = self._schedule, self._batches.count
        # A seed of its own, so that a training which goes on drops the same values.
        torch.manual_seed(schedule.seed + epoch)
        self._module.train()
        total, done = 0.0, 0
        for at, parts in enumerate(self._batches.epoch(epoch)):
            step = epoch * count + at
            share = step / (schedule.epochs * count)
            _freeze_batch_norm(self._module, share >= schedule.freeze_batch_norm_after)
            rate = learning_rate_at(schedule, step, schedule.epochs * count)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.zero_grad()
            loss = sum(self._backward(part) for part in parts)
            if step == 0:
                self._require_gradient()
            if not math.isfinite(loss):
                self._diverged(f"the loss became {loss} in epoch {epoch + 1}, step {at + 1}")
            self._optimizer.step()
            if self._task.after_step is not None:
                self._task.after_step(self._module, step + 1)
            total, done = total + loss, done + 1
            advance(1)
            if time.monotonic() > self._deadline:
                return total / done, False
        return total / done, True

    def _backward(self, part: Batch) -> float:
        """Add the gradients of a part of a minibatch; returns its part of the loss."""
        task, device = self._task, self._schedule.device
        feed = {name: torch.from_numpy(value).to(device) for name, value in part.feed.items()}
        teacher = None
        labels = encoded(task.loss, task.samples, part.indices, device)
        if task.teacher is not None and task.loss.needs_teacher:
            answers = task.teacher(part)
            teacher = {name: torch.tensor(value).to(device) for name, value in answers.items()}
        loss = task.loss(self._module(feed), labels, teacher) * part.share
        if not loss.requires_grad:
            raise RefusedError("the loss does not move: it depends on no weight that is trained")
        loss.backward()
        return float(loss.detach())

    def _require_gradient(self) -> None:
        """Raise RefusedError where the first step would change nothing."""
        trained = [one for one in self._module.parameters() if one.requires_grad]
        if any(one.grad is not None and bool((one.grad != 0).any()) for one in trained):
            return
        raise RefusedError(
            f"the loss does not move: its gradient is 0 for all {len(trained)} trained weights,"
            " since it is constant or nothing is left to learn"
        )

    def _keep(self, epoch: int, loss: float) -> None:
        """Judge the module after an epoch, remember the best, and write the checkpoint."""
        state = self._state
        module = _copied(self._module.state_dict())
        if not all(bool(torch.isfinite(value).all()) for value in module.values()):
            self._diverged(f"weights are no finite numbers after epoch {epoch}")
        metric = self._judged()
        if metric is not None:
            before = -math.inf if state.best_metric is None else state.best_metric
            if metric > before:
                state.better_epoch = epoch
            # Of equals the later one: it was trained for longer, and few samples tell no more.
            if metric >= before:
                state.best, state.best_epoch, state.best_metric = module, epoch, metric
        state.records.append({"loss": loss, "metric": metric})
        state.module, state.epoch = module, epoch
        state.loss = _copied(self._loss.state_dict()) if self._has_own_state else {}
        state.optimizer = self._optimizer.state_dict()
        if self._folder is not None:
            write_checkpoint(self._folder, state)

    @property
    def _has_own_state(self) -> bool:
        return isinstance(self._loss, nn.Module)

    def _judged(self) -> float | None:
        judge = self._task.judge
        return None if judge is None else judge(self._module)

    def _patience_is_over(self, epoch: int) -> bool:
        patience = self._schedule.patience
        return patience is not None and epoch - self._state.better_epoch >= patience

    def _diverged(self, what: str) -> None:
        """Go back to the last good epoch, and say so."""
        self._module.load_state_dict(self._state.module)
        kept = f"after epoch {self._state.epoch}" if self._state.epoch else "it began with"
        where = (
            f", also in {self._folder}" if self._folder is not None and self._state.epoch else ""
        )
        raise RefusedError(
            f"training diverged: {what}, at learning rate {self._schedule.learning_rate:g};"
            f" the weights {kept} are kept{where}; a lower learning rate may help"
        )

    def _begun(self) -> Checkpoint:
        module, metric = _copied(self._module.state_dict()), self._judged()
        best = None if metric is None else module
        return Checkpoint(self._key(), module=module, best=best, best_metric=metric)

    def _resumed(self) -> Checkpoint | None:
        state = None if self._folder is None else read_checkpoint(self._folder, self._key())
        if state is not None:
            self._module.load_state_dict(state.module)
            self._optimizer.load_state_dict(state.optimizer)
            if self._has_own_state:
                self._loss.load_state_dict(state.loss)
        return state

    def _key(self) -> str:
        settings = msgspec.structs.replace(self._schedule, time_s=None)
        return f"{self._task.key} {msgspec.json.encode(settings).decode()}"


def encoded(loss: Loss, samples: Samples, indices: NDArray[np.int64], device: Any) -> Any:
    """Return the labels of these samples as the loss takes them; None where there are none."""
    truth = samples.ground_truth
    if truth is None:
        return None
    encode: Callable[[Labels], Any] = getattr(loss, "encode", plain_labels)
    return _moved(encode(truth.select(indices)), device)


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(_moved(one, device) for one in value)
    return (
        {key: _moved(one, device) for key, one in value.items()}
        if isinstance(value, dict)
        else value
    )


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Decay weights alone: biases, scales and ranges have one axis."""
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _freeze_batch_norm(module: nn.Module, frozen: bool) -> None:
    freeze = getattr(module, "freeze_batch_norm", None)
    if freeze is not None:
        freeze(frozen)


def _copied(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}
