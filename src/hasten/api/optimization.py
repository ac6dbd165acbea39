"""``hasten.optimize``: the main job."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hasten.api.sources import Data, cleaned, load, read_divided, read_training, require_samples
from hasten.bundle import Manifest, require_free, write_bundle
from hasten.compress import Context
from hasten.data import Source, resolve_metric
from hasten.errors import OptionError, RefusedError
from hasten.graph import InputSpec, Model, read_onnx, read_tflite, save_torch
from hasten.graph.rows import RowVerdict
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.progress import Progress, Quiet
from hasten.runtimes import Execution, Lowered, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.chain import apply_recipe
from hasten.tune.optimize import optimize as optimize_plan
from hasten.tune.plan import Plan
from hasten.tune.recipe import Recipe, read_recipe, require_order
from hasten.tune.settings import Settings
from hasten.tune.space import (
    check_delegates,
    check_devices,
    check_threads,
    default_runtimes,
    require_runtimes,
)
from hasten.tune.step_cache import StepCache
from hasten.tune.stopwatch import RuntimeStopwatch

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["optimize"]


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
    recipe: str | Path | Recipe | None = None,
    cache: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Race all candidates for a model and write the bundle of the one that won.

    With a ``recipe``, its steps are applied first, however long they take, and the race is between
    the runtimes and executions of its graph. ``cache`` keeps what each step made, and takes what
    was kept, in the cache folder.

    Raises an InputError for what cannot be used, before anything is measured, RefusedError where a
    step of the recipe cannot take the model, and RuntimeFailureError when the model cannot be run
    as it is.
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
    division = data if isinstance(data, Data) else Data(data)
    recipe = _checked(recipe, division)
    deadline = Deadline.after(settings.time_s)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hasten-")))
        with progress.stage("reading the model", None):
            to_be_trained = recipe is not None and recipe.trains_float
            with_norms = recipe is not None and recipe.keeps_batch_norms
            model = load(
                source,
                example,
                inputs=inputs,
                scratch=scratch,
                keep_batch_norms=with_norms,
            )
        calibration, validation, notes = read_divided(
            division, model, settings.seed, scratch, progress
        )
        judge_by = resolve_metric(metric, validation)
        with progress.stage("cleaning the graph", None):
            left: list[str] = []
            if not to_be_trained:  # cleaning folds batch norms, which training needs
                model, left = cleaned(model, validation, scratch, keep_batch_norms=with_norms)
        chain = None
        if recipe is not None:
            training = read_training(division, model, recipe, scratch, progress)
            context = Context(
                scratch,
                calibration,
                validation.preprocessing,
                progress,
                training=training,
                stopwatch=_stopwatch(settings, scratch),
            )
            steps = StepCache.of_user() if cache else None
            chain = apply_recipe(model, recipe, context, steps)
            left.append(f"beside the reference, only the graph of {_named(recipe)} raced")
            deadline = Deadline.after(settings.time_s)
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
            chain=chain,
        )
        return _write(plan, model, path, scratch, force=force)


def _checked(recipe: str | Path | Recipe | None, data: Data) -> Recipe | None:
    """Return the recipe, if its steps are in order and have the samples that they need."""
    if recipe is None:
        if data.training is not None:
            raise OptionError(
                expected="--recipe beside --train", got="--train alone", where="--train"
            )
        return None
    if isinstance(recipe, Recipe):
        require_order(recipe)
    else:
        recipe = read_recipe(Path(recipe))
    require_samples(recipe, data)
    return recipe


def _named(recipe: Recipe) -> str:
    return recipe.name or recipe.source or "the recipe"


def _stopwatch(settings: Settings, scratch: Path) -> RuntimeStopwatch:
    """Time in the first runtime asked for that runs any graph."""
    able = [name for name in settings.runtimes if {"onnx", "tflite"} & set(get_runtime(name).reads)]
    execution = Execution(threads=settings.threads or physical_cores())
    name = next(iter(able), "onnxruntime")
    return RuntimeStopwatch(scratch / "stopwatch", name, execution, settings.seed)


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
        rows=_rows(lowered, model),
        force=force,
    )


def _rows(lowered: Lowered, model: Model) -> RowVerdict:
    """Read from the graph that is deployed whether its rows are independent."""
    readers = {"onnx": read_onnx, "tflite": read_tflite}
    read = readers.get(lowered.format)
    return (model if read is None else read(Path(lowered.path))).rows
