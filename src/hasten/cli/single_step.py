"""Flags that the verbs of one step have in common: samples, measuring, and training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from cyclopts import Parameter

from hasten.api import Data, Way
from hasten.cli.options import Flag, Repeated, inputs_of, seconds
from hasten.cli.progress import shown
from hasten.data.meaning import parse_outputs
from hasten.errors import OptionError

__all__ = ["SingleStep", "Training", "named_as_flags"]


@contextmanager
def named_as_flags(**flags: str) -> Iterator[None]:
    """Name a setting that a step complains of as the flag by which it was given.

    ``flags`` are those that are called otherwise than their setting.
    """
    try:
        yield
    except OptionError as error:
        setting = error.where.rpartition(" ")[2].removesuffix("_s")
        raise OptionError(
            expected=error.expected,
            got=error.got,
            where=f"--{flags.get(setting, setting).replace('_', '-')}",
            hint=error.hint,
        ) from None


@Parameter(name="*")
@dataclass(frozen=True)
class SingleStep:
    """How a step is run alone, as flags of the verb.

    Parameters
    ----------
    data
        Samples to judge with, and to calibrate with: an .npz, a folder of images with a folder per
        class, or package.module:callable. Without it, fidelity is judged on random samples.
    calibration
        Samples to find ranges with; by default a part of --data is set aside for it.
    calibration_samples
        How many samples to calibrate with.
    preprocess
        How images become the model's input, and their labels: size=224x224,mean=0.5,std=0.5,
        labels=FILE and others, see docs/data.md.
    input
        An input of a PyTorch model: name=float32[batch,3,224,224]. Repeat for each.
    output
        What an output is: name=kind, such as logits=scores; boxes, mask, embedding, regression and
        others, see docs/judging.md. Repeat for each.
    metric
        top1, top5 (any topK), f1, auc, map, map50, iou, cer, wer, mae, rmse, r2, recall@K, fidelity
        or package.module:callable, see docs/metrics.md; by default what suits the labels, and
        fidelity without any.
    max_drop
        Goal: how much of the metric may be lost; exit status 1 where it is more.
    tolerance
        How much noise the written file may add, as a share of what varies over samples.
    rounds
        Rounds in which both models are timed; 0 for no timing.
    seed
        Decides splits, orders and random numbers.
    no_cache
        Apply the step anew, and keep nothing of it.
    force
        Replace the file that is there.
    json
        Print one JSON document.
    """

    data: str | None = None
    calibration: str | None = None
    calibration_samples: int | None = None
    preprocess: str | None = None
    input: Repeated = None
    output: Repeated = None
    metric: str | None = None
    max_drop: float | None = None
    tolerance: float | None = None
    rounds: int = 12
    seed: int = 0
    no_cache: Flag = False
    force: Flag = False
    json: Flag = False

    def samples(self, train: str | None = None) -> Data:
        """Return where the samples come from."""
        return Data(self.data, self.calibration, self.calibration_samples, self.preprocess, train)

    def way(self) -> Way:
        """Return how the step is run; raises OptionError for what cannot be."""
        if self.rounds < 0:
            raise OptionError(expected="0 or more", got=str(self.rounds), where="--rounds")
        return Way(
            self.metric,
            self.max_drop,
            self.rounds,
            self.seed,
            cache=not self.no_cache,
            force=self.force,
            inputs=inputs_of(self.input),
            progress=shown(),
            outputs=parse_outputs(self.output or ()),
            tolerance=self.tolerance,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class Training:
    """How a training runs, as flags of the verb.

    Parameters
    ----------
    epochs
        How often the samples are gone through.
    learning_rate
        The highest rate of its cosine.
    batch
        Samples in a minibatch.
    patience
        End after so many epochs that were no better on the samples held out.
    augment
        flip_horizontal, flip_vertical, shift or rotate_90. Repeat for more.
    time
        End the training in time: 90s, 30m, 1h.
    device
        Where it is trained.
    loss
        How outputs are compared with labels and teacher: auto, mse, l1, cross_entropy, bce, focal,
        ctc, iou, or package.module:callable.
    smoothing
        Share of each label that is spread over all classes.
    class_weights
        How much each class counts: 1,2.5,1.
    output_weight
        How much an output counts, as name=0.5; the others count 1. Repeat for more.
    freeze
        A layer or weight that stays, by its name or a pattern such as 'encoder.*'. Repeat for more.
    """

    epochs: int | None = None
    learning_rate: float | None = None
    batch: int | None = None
    patience: int | None = None
    augment: Repeated = None
    time: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    loss: str = "auto"
    smoothing: float = 0.0
    class_weights: str | None = None
    output_weight: Repeated = None
    freeze: Repeated = None

    def settings(self, seed: int) -> dict[str, Any]:
        """Return the fields of a schedule that are given."""
        given = {
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch": self.batch,
            "patience": self.patience,
            "augment": tuple(self.augment) if self.augment else None,
            "time_s": seconds(self.time) if self.time else None,
            "loss": self.loss,
            "smoothing": self.smoothing,
            "class_weights": _numbers(self.class_weights) if self.class_weights else None,
            "output_weights": _weights(self.output_weight) if self.output_weight else None,
            "freeze": tuple(self.freeze) if self.freeze else None,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        return {**chosen, "device": self.device, "seed": seed}


def _numbers(text: str) -> tuple[float, ...]:
    """Read numbers between commas.

    >>> _numbers("1,2.5")
    (1.0, 2.5)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            expected="numbers between commas, such as 1,2.5,1", got=text, where="--class-weights"
        ) from None


def _weights(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Read ``name=number``.

    >>> _weights(["logits=0.5"])
    (('logits', 0.5),)
    """
    found = []
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            found.append((name.strip(), float(number)))
        except ValueError:
            name = ""
        if not name:
            raise OptionError(
                expected="name=number such as logits=0.5", got=text, where="--output-weight"
            )
    return tuple(found)
