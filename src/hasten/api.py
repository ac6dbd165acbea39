"""The verbs as functions: what the command line calls, and what Python users call."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from hasten.bundle import Manifest, require_free, write_bundle
from hasten.conversion import Conversion, Kind, Target
from hasten.conversion import convert as convert_model
from hasten.data import Preprocessing, Samples, Source, load_samples, resolve_metric
from hasten.errors import DataError, OptionError, RefusedError
from hasten.graph import InputSpec, Model, clean, require_free_file, save_torch
from hasten.graph import load as load_graph
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.progress import Advance, Progress, Quiet
from hasten.runtimes import Arrays, Execution, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.optimize import optimize as optimize_plan
from hasten.tune.plan import Plan
from hasten.tune.settings import Settings
from hasten.tune.space import (
    check_delegates,
    check_devices,
    check_threads,
    default_runtimes,
    require_runtimes,
)

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["Data", "convert", "load", "optimize"]

#: Samples that are enough to know the ranges of activations.
_CALIBRATION_SAMPLES = 128
#: Without data, this many random samples stand in for it.
_SYNTHETIC_SAMPLES = 32
#: Samples that a conversion compares on: one alone and two batches of three. More tell little more
#: of two programs that are the same or are not.
_COMPARED_SAMPLES = 7

ModelSource = "str | Path | Model | onnx.ModelProto | torch.nn.Module"


@dataclass(frozen=True)
class Data:
    """Where samples come from, and how they are divided.

    ``calibration`` is a source of its own; without it, ``calibration_samples`` are split off
    ``samples``, by default at most a quarter of them. ``preprocessing`` says how pixels become
    the model's input, as ``size=224x224,mean=0.5,std=0.5`` or as a Preprocessing.
    """

    samples: Source | None = None
    calibration: Source | None = None
    calibration_samples: int | None = None
    preprocessing: Preprocessing | str | None = None


def load(
    source: str | Path | Model | onnx.ModelProto | torch.nn.Module,
    example: Any = None,
    *,
    inputs: Sequence[InputSpec] = (),
    scratch: Path | None = None,
) -> Model:
    """Return a model from a path, an nn.Module with an example, or package.module:callable.

    See ``hasten.graph.load``. Without ``scratch``, what has to be on disk beside the model goes to
    a temporary folder that stays until the system clears it.
    """
    folder = scratch or Path(tempfile.mkdtemp(prefix="hasten-"))
    return load_graph(source, example, inputs=inputs, scratch=folder)


def optimize(
    source: str | Path | Model | onnx.ModelProto | torch.nn.Module,
    data: Data | Source | None = None,
    *,
    out: str | Path,
    example: Any = None,
    inputs: Sequence[InputSpec] = (),
    metric: str | None = None,
    budget: Budget | None = None,
    settings: Settings | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Race all candidates for a model and write the bundle of the one that won.

    Raises an InputError for what cannot be used, before anything is measured, and
    RuntimeFailureError when the model cannot be run as it is.
    """
    path = Path(out)
    require_free(path, force=force)
    progress = progress or Quiet()
    settings = settings or Settings()
    require_runtimes(settings.runtimes)
    racing = default_runtimes(settings.runtimes)
    check_devices(settings.devices, racing)
    settings = replace(settings, delegates=check_delegates(settings.delegates, racing))
    check_threads(settings.threads, physical_cores())
    deadline = Deadline.after(settings.time_s)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hasten-")))
        with progress.stage("reading the model", None):
            model = load(source, example, inputs=inputs, scratch=scratch)
        division = data if isinstance(data, Data) else Data(data)
        calibration, validation, notes = _read_data(division, model, settings, scratch, progress)
        judge_by = resolve_metric(metric, validation)
        with progress.stage("cleaning the graph", None):
            model, left = _cleaned(model, validation, scratch)
        plan = optimize_plan(
            model,
            calibration=calibration,
            validation=validation,
            metric=judge_by,
            budget=budget or Budget(),
            settings=settings,
            scratch=scratch,
            progress=progress,
            notes=[*notes, *left],
            deadline=deadline,
        )
        return _write(plan, model, path, scratch, force=force)


def convert(
    source: str | Path | Model | onnx.ModelProto | torch.nn.Module,
    *,
    to: Kind,
    out: str | Path,
    data: Source | None = None,
    preprocessing: Preprocessing | str | None = None,
    example: Any = None,
    inputs: Sequence[InputSpec] = (),
    channels_last: Sequence[str] = (),
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Write a model in another format, once its outputs were compared with the source's.

    They are compared on samples of ``data``, or on random ones. Image inputs that are named in
    ``channels_last`` are taken so by a .tflite. Raises an InputError for what cannot be used, and
    RefusedError where the format has no equal of the graph or its outputs part too far.
    """
    path = Path(out)
    if path.suffix != f".{to}":
        raise OptionError(expected=f"a file that ends in .{to}", got=path.name, where="--out")
    require_free_file(path, force=force)
    progress = progress or Quiet()
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        scratch = Path(name)
        with progress.stage("reading the model", None):
            model = load(source, example, inputs=inputs, scratch=scratch)
        if data is None:
            samples = Samples.synthetic(model.signature, _COMPARED_SAMPLES, seed)
        else:
            given = Data(data, preprocessing=preprocessing)
            folder = scratch / "samples"
            samples = _read(data, given, model, folder, progress, at_most=_COMPARED_SAMPLES)
        with progress.stage("converting", None):
            cleaned, notes = _cleaned(model, samples, scratch)
            target = Target(to, path, tuple(channels_last))
            found = convert_model(model, cleaned, samples, target, scratch)
    return msgspec.structs.replace(found, notes=(*notes, *found.notes))


def _read_data(
    data: Data, model: Model, settings: Settings, scratch: Path, progress: Progress
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
        synthetic = Samples.synthetic(model.signature, _SYNTHETIC_SAMPLES, settings.seed)
        note = (
            f"no data: fidelity was judged on {_SYNTHETIC_SAMPLES} random samples, which say"
            " little of real ones; give --data"
        )
        return None, synthetic, [note]
    samples = _read(data.samples, data, model, scratch / "samples", progress)
    if data.calibration is not None:
        calibration = _read(
            data.calibration,
            data,
            model,
            scratch / "calibration",
            progress,
            at_most=wanted or _CALIBRATION_SAMPLES,
            seed=settings.seed,
        )
        if wanted is not None and wanted > len(calibration):
            raise DataError(
                expected=f"{wanted} samples for calibration",
                got=str(len(calibration)),
                where=calibration.source,
            )
        return calibration, samples, []
    share = wanted or max(1, min(_CALIBRATION_SAMPLES, len(samples) // 4))
    calibration, validation = samples.split(calibration=share, seed=settings.seed)
    return calibration, validation, []


def _read(
    source: Source,
    data: Data,
    model: Model,
    scratch: Path,
    progress: Progress,
    *,
    at_most: int | None = None,
    seed: int = 0,
) -> Samples:
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
        )


def _by_difference(advance: Advance) -> Callable[[int, int], None]:
    last = 0

    def told(done: int, total: int) -> None:
        nonlocal last
        del total
        advance(done - last)
        last = done

    return told


def _cleaned(model: Model, samples: Samples, scratch: Path) -> tuple[Model, list[str]]:
    """Return the model with less in it, or as it was with the reason why."""
    origin = model.tflite
    if model.format != "onnx":
        reason = f" ({origin.refusal})" if origin is not None and origin.refusal else ""
        return model, [f"the .tflite runs as it is, without steps: it has no graph{reason}"]
    notes = [] if origin is None else list(origin.notes)
    runtime = get_runtime("onnxruntime")

    def run(one: Model, feed: Any) -> Arrays:
        session = runtime.open(runtime.lower(one, scratch), Execution())
        try:
            return {name: np.asarray(value) for name, value in session.run(dict(feed)).items()}
        finally:
            session.close()

    feed, _ = next(samples.batches(model.signature, 1))
    try:
        return clean(model, run, feed), notes
    except RefusedError as refused:
        return model, [*notes, f"the graph was not cleaned: {refused}"]


def _write(plan: Plan, model: Model, path: Path, scratch: Path, *, force: bool) -> Manifest:
    from hasten.report import render_html

    lowered = plan.chosen.lowered
    if lowered is None:
        raise RefusedError(plan.chosen.reason)
    if lowered.format == "pt2" and not lowered.path:
        program = scratch / "original.pt2"
        save_torch(model, program)
        lowered = msgspec.structs.replace(lowered, path=str(program))
    return write_bundle(
        path,
        name=path.name.removesuffix(".hasten"),
        lowered=lowered,
        plan=plan.record,
        evidence=plan.evidence,
        environment=plan.environment,
        pages={"report.html": render_html},
        force=force,
    )
