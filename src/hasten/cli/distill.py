"""``hasten distill``: a small model learns from a large one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hasten.api import distill as distill_model
from hasten.cli.output import print_compression
from hasten.cli.single_step import SingleStep, Training, named_as_flags
from hasten.compress import Distill, PruneChannels
from hasten.errors import OptionError

__all__ = ["distill"]

_AS_USUAL = SingleStep()
_SCHEDULE = Training()


def distill(
    teacher: str,
    *,
    train: str,
    out: Path,
    student: str | None = None,
    ratio: float | None = None,
    alpha: float = 0.0,
    temperature: float = 4.0,
    method: Literal["kl", "dkd", "match"] = "kl",
    training: Training = _SCHEDULE,
    single: SingleStep = _AS_USUAL,
) -> int:
    """Train a small model on the answers of a large one.

    Parameters
    ----------
    teacher
        A path (.onnx, .tflite, .pt2), package.module:callable, or the URL of a served model, such
        as http://127.0.0.1:8000/v2/models/NAME.
    train
        Samples to train on; without labels unless --alpha asks for them.
    out
        The file to write: .onnx, or .tflite for LiteRT.
    student
        The small model, as the teacher is given.
    ratio
        Instead of a student: the teacher without this share of its channels.
    alpha
        Share of the labels in the loss; the rest is the teacher's.
    temperature
        How far the answers of both are softened.
    method
        Hinton's divergence, its decoupled form, or the squared difference of outputs of any kind.
    """
    if (student is None) == (ratio is None):
        raise OptionError(
            expected="one of --student and --ratio",
            got="none" if student is None else "both",
            where="hasten distill",
        )
    with named_as_flags():
        step = Distill(
            **training.settings(single.seed), alpha=alpha, temperature=temperature, method=method
        )
        smaller = PruneChannels(ratio)
    found = distill_model(
        teacher,
        smaller if student is None else student,
        single.samples(train),
        out=out,
        step=step,
        way=single.way(),
    )
    return print_compression(found, as_json=single.json)
