"""How a training runs: for how long, how fast it learns, and on what."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from hasten.errors import OptionError
from hasten.train.loss_names import require_loss, taken_loss

__all__ = ["Augmentation", "LossSettings", "Schedule", "learning_rate_at"]

#: What may be done to an image: mirrored, shifted by up to an eighth, turned by quarters.
Augmentation = Literal["flip_horizontal", "flip_vertical", "shift", "rotate_90"]


class Schedule(msgspec.Struct, frozen=True):
    """AdamW with a cosine after a linear warm-up; the same seed gives the same weights.

    ``held_out`` is the share of the samples that judges each epoch, 0 for none: the epoch that was
    best is kept, and after ``patience`` epochs without a better one training stops. Batch norms
    keep their statistics from the share ``freeze_batch_norm_after`` of the training on.
    ``time_s`` ends the training at the step that exceeds it. ``freeze`` names layers or weights, or
    patterns of them, that stay: see ``hasten.train.freezing``. Raises OptionError for values that
    cannot be meant.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019 (arXiv
    1711.05101), and "SGDR", ICLR 2017 (arXiv 1608.03983).
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    batch: int = 32
    weight_decay: float = 1e-4
    warm_up: float = 0.05
    held_out: float = 0.1
    patience: int | None = None
    freeze_batch_norm_after: float = 0.75
    augment: tuple[Augmentation, ...] = ()
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    time_s: float | None = None
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "1 or more", self.epochs, "epochs")
        _require(self.batch >= 1, "1 or more", self.batch, "batch")
        _require(self.seed >= 0, "0 or more", self.seed, "seed")
        rate = self.learning_rate
        _require(math.isfinite(rate) and rate > 0, "a positive number", rate, "learning_rate")
        decay = self.weight_decay
        _require(math.isfinite(decay) and decay >= 0, "0 or more", decay, "weight_decay")
        for name in ("warm_up", "held_out"):
            share = getattr(self, name)
            _require(0 <= share < 1, "a share from 0 to less than 1", share, name)
        late = self.freeze_batch_norm_after
        _require(0 <= late <= 1, "a share from 0 to 1", late, "freeze_batch_norm_after")
        if self.patience is not None:
            _require(self.patience >= 1, "1 or more", self.patience, "patience")
            _require(self.held_out > 0, "a held_out share to judge by", 0, "patience")
        if self.time_s is not None:
            _require(self.time_s > 0, "a positive number of seconds", self.time_s, "time_s")


class LossSettings(Schedule, frozen=True):
    """A schedule, and how outputs are compared with what they should be.

    ``loss`` is a name of ``hasten.train.loss_names.LOSSES``, ``package.module:callable``, or in
    Python a function ``(outputs, labels, teacher) -> scalar tensor``, of dicts by output name.
    ``smoothing`` of each label is spread over all classes, of which ``class_weights`` has one each.
    ``output_weights`` are pairs of an output and how much it counts; the others count 1.
    """

    loss: Any = "auto"
    smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    output_weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.loss, str):
            # A record of settings holds names: this one stands for the function in this process.
            msgspec.structs.force_setattr(self, "loss", taken_loss(self.loss))
        require_loss(self.loss)
        share = self.smoothing
        _require(0 <= share < 1, "a share from 0 to less than 1", share, "smoothing")
        weights = self.class_weights
        _require(all(one >= 0 for one in weights), "weights of 0 or more", weights, "class_weights")


def learning_rate_at(schedule: Schedule, step: int, steps: int) -> float:
    """Return the learning rate of a step, of ``steps`` in all.

    >>> slow = Schedule(learning_rate=1.0, warm_up=0.5)
    >>> [round(learning_rate_at(slow, step, 8), 2) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    rising = round(schedule.warm_up * steps)
    if step < rising:
        return schedule.learning_rate * (step + 1) / rising
    share = (step - rising) / max(steps - rising, 1)
    return schedule.learning_rate * (1 + math.cos(math.pi * share)) / 2


def _require(holds: bool, expected: str, got: Any, where: str) -> None:
    if not holds:
        raise OptionError(expected=expected, got=str(got), where=where)
