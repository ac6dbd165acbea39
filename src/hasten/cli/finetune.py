"""``hasten finetune``: a model trained further."""

from __future__ import annotations

from pathlib import Path

from hasten.api import finetune as finetune_model
from hasten.cli.options import Flag
from hasten.cli.output import print_compression
from hasten.cli.single_step import SingleStep, Training, named_as_flags
from hasten.compress import Finetune, TrainQuantized

__all__ = ["finetune"]

_AS_USUAL = SingleStep()
_SCHEDULE = Training()


def finetune(
    model: str,
    *,
    train: str,
    out: Path,
    int8: Flag = False,
    teacher: str | None = None,
    alpha: float | None = None,
    temperature: float = 4.0,
    training: Training = _SCHEDULE,
    single: SingleStep = _AS_USUAL,
) -> int:
    """Train a model further, in float or for int8.

    Parameters
    ----------
    model
        A path (.onnx, .tflite, .pt2) or package.module:callable that returns an nn.Module.
    train
        Samples to train on.
    out
        The file to write: .onnx, or .tflite for LiteRT.
    int8
        Train with quantization, and write the model in int8.
    teacher
        Learn from the answers of this model too: as MODEL, or the URL of a served one. With
        --int8 it is the float model by default.
    alpha
        Share of the labels in the loss; the rest is the teacher's. By default 1 without a
        teacher, and 0 with one.
    temperature
        How far the answers of both are softened.
    """
    if alpha is None:
        alpha = 0.0 if int8 or teacher is not None else 1.0
    settings = {**training.settings(single.seed), "alpha": alpha, "temperature": temperature}
    with named_as_flags():
        step = TrainQuantized(**settings) if int8 else Finetune(**settings)
    found = finetune_model(
        model,
        single.samples(train),
        out=out,
        step=step,
        teacher=teacher,
        way=single.way(),
    )
    return print_compression(found, as_json=single.json)
