"""Where models and samples come from: read once, for every verb alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasten.compress import Need
from hasten.data import Preprocessing, Samples, Source, load_samples
from hasten.errors import DataError, OptionError, RefusedError
from hasten.graph import InputSpec, Model
from hasten.graph import load as load_graph
from hasten.progress import Advance, Progress
from hasten.tune.recipe import Recipe, require_needs
from hasten.worker.cleaning import cleaned as cleaned_in_worker

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = [
    "Data",
    "cleaned",
    "load",
    "read_divided",
    "read_samples",
    "read_training",
    "require_samples",
]

#: Samples that are enough to know the ranges of activations.
_CALIBRATION_SAMPLES = 128
#: Without data, this many random samples stand in for it.
_SYNTHETIC_SAMPLES = 32


@dataclass(frozen=True)
class Data:
    """Where samples come from, and how they are divided.

    ``calibration`` is a source of its own; without it, ``calibration_samples`` are split off
    ``samples``, by default at most a quarter of them. ``preprocessing`` says how images become
    the model's input, as ``size=224x224,mean=0.5,std=0.5`` or as a Preprocessing; as text it may
    name a file of labels, ``labels=instances.json``, which is not read for ``calibration``.
    ``training`` is what steps that train do so on; it neither calibrates nor judges.
    """

    samples: Source | None = None
    calibration: Source | None = None
    calibration_samples: int | None = None
    preprocessing: Preprocessing | str | None = None
    training: Source | None = None


def load(
    source: str | Path | Model | onnx.ModelProto | torch.nn.Module,
    example: Any = None,
    *,
    inputs: Sequence[InputSpec] = (),
    scratch: Path | None = None,
    keep_batch_norms: bool = False,
) -> Model:
    """Return a model from a path, an nn.Module with an example, or package.module:callable.

    ``keep_batch_norms`` is for one that is yet to be trained. See ``hasten.graph.load``. Without
    ``scratch``, what has to be on disk beside the model goes to a temporary folder that stays until
    the system clears it.
    """
    folder = scratch or Path(tempfile.mkdtemp(prefix="hasten-"))
    return load_graph(
        source, example, inputs=inputs, scratch=folder, keep_batch_norms=keep_batch_norms
    )


def read_divided(
    data: Data, model: Model, seed: int, scratch: Path, progress: Progress
) -> tuple[Samples | None, Samples, list[str]]:
    """Return the samples to calibrate and to judge with, and what is to be said of them."""
    wanted = data.calibration_samples
    if wanted is not None and wanted < 1:
        raise OptionError(expected="1 or more", got=str(wanted), where="--calibration-samples")
    if data.samples is None:
        if data.calibration is not None:
            raise OptionError(
                expected="--data beside --calibration", got="--calibration alone", where="--data"
            )
        synthetic = Samples.synthetic(model.signature, _SYNTHETIC_SAMPLES, seed)
        note = (
            f"no data: fidelity was judged on {_SYNTHETIC_SAMPLES} random samples, which say"
            " little of real ones; give --data"
        )
        return None, synthetic, [note]
    samples = read_samples(data.samples, data, model, scratch / "samples", progress)
    if data.calibration is not None:
        calibration = read_samples(
            data.calibration,
            data,
            model,
            scratch / "calibration",
            progress,
            at_most=wanted or _CALIBRATION_SAMPLES,
            seed=seed,
            labelled=False,
        )
        if wanted is not None and wanted > len(calibration):
            raise DataError(
                expected=f"{wanted} samples for calibration",
                got=str(len(calibration)),
                where=calibration.source,
            )
        return calibration, samples, [*samples.notes]
    share = wanted or max(1, min(_CALIBRATION_SAMPLES, len(samples) // 4))
    calibration, validation = samples.split(calibration=share, seed=seed)
    return calibration, validation, [*samples.notes]


def require_samples(recipe: Recipe, data: Data) -> None:
    """Raise DataError where a step needs samples that no source is given for."""
    given: set[Need] = {"labels"}  # whether there are any is seen when they are read
    if data.samples is not None:
        given.add("calibration")
    if data.training is not None:
        given.add("training")
    require_needs(recipe, given)


def read_training(
    data: Data, model: Model, recipe: Recipe, scratch: Path, progress: Progress
) -> Samples | None:
    """Return the samples to train on, if there are any; DataError where labels are missing."""
    if data.training is None:
        return None
    training = read_samples(data.training, data, model, scratch / "training", progress)
    if training.ground_truth is None:
        require_needs(recipe, {"calibration", "training"})
    return training


def read_samples(
    source: Source,
    data: Data,
    model: Model,
    scratch: Path,
    progress: Progress,
    *,
    at_most: int | None = None,
    seed: int = 0,
    labelled: bool = True,
) -> Samples:
    """Read samples for a model; ``scratch`` is a new folder, for what does not fit in memory."""
    scratch.mkdir()
    with progress.stage("reading samples", None) as advance:
        return load_samples(
            source,
            model.signature,
            preprocessing=data.preprocessing,
            scratch=scratch,
            advance=_by_difference(advance),
            at_most=at_most,
            seed=seed,
            labelled=labelled,
        )


def _by_difference(advance: Advance) -> Callable[[int, int], None]:
    last = 0

    def told(done: int, total: int) -> None:
        nonlocal last
        del total
        advance(done - last)
        last = done

    return told


def cleaned(
    model: Model, samples: Samples, scratch: Path, *, keep_batch_norms: bool = False
) -> tuple[Model, list[str]]:
    """Return the model with less in it, or as it was with the reason why."""
    origin = model.tflite
    if model.format != "onnx":
        reason = f" ({origin.refusal})" if origin is not None and origin.refusal else ""
        return model, [f"the .tflite runs as it is, without steps: it has no graph{reason}"]
    notes = [] if origin is None else list(origin.notes)
    feed, _ = next(samples.batches(model.signature, 1))
    try:
        made = cleaned_in_worker(model, feed, scratch, keep_batch_norms=keep_batch_norms)
        return made, notes
    except RefusedError as refused:
        return model, [*notes, f"the graph was not cleaned: {refused}"]
