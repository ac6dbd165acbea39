"""``hasten.quantize``, ``prune``, ``distill`` and ``finetune``: one step alone, into a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hasten.api.sources import (
    Data,
    cleaned,
    load,
    read_divided,
    read_training,
    require_samples,
)
from hasten.compress import (
    Context,
    Distill,
    Finetune,
    PruneChannels,
    Sparsify,
    StaticInt8,
    StepConfig,
    TrainQuantized,
)
from hasten.conversion import Kind, Target, require_tolerance
from hasten.conversion import convert as convert_model
from hasten.data import Metric, Samples, Source, loss, resolve_metric
from hasten.data.fidelity import least_sqnr_db
from hasten.data.meaning import OutputKind
from hasten.errors import OptionError
from hasten.graph import InputSpec, Model, require_free_file
from hasten.measure.clock import Deadline
from hasten.progress import Progress, Quiet
from hasten.tune.budget import Budget, is_within
from hasten.tune.chain import Chain, apply_recipe
from hasten.tune.compression import Compression, Measuring, Pair, measure_pair
from hasten.tune.quantize import quantize_within
from hasten.tune.recipe import Recipe, require_order
from hasten.tune.step_cache import StepCache
from hasten.tune.stopwatch import RuntimeStopwatch

if TYPE_CHECKING:
    import onnx
    import torch

    ModelSource = str | Path | Model | onnx.ModelProto | torch.nn.Module

__all__ = ["Way", "distill", "finetune", "prune", "quantize"]

#: Samples on which the written file is compared with the graph: one alone and two batches of three.
_COMPARED_SAMPLES = 7
_RUNTIMES: dict[str, str] = {"onnx": "onnxruntime", "tflite": "litert"}


@dataclass(frozen=True)
class Way:
    """How a single step is run and measured: the options that its verbs have in common.

    ``max_drop`` is how much of the metric may be lost: where it is more, the model is written and
    ``unmet`` says so. ``rounds`` is how many rounds the models before and after are timed in, 0
    for none. ``outputs`` says what outputs are, by name, where that is not to be found: see
    ``hasten.data.meaning``. ``tolerance`` is how much noise the written file may add, as a share of
    what varies over samples: by default that of ``convert``, or what quantizing has added already.
    ``cache`` keeps the result of the step, and goes on where a training was interrupted.
    ``example`` and ``inputs`` are for models of PyTorch, see ``load``.
    """

    metric: str | None = None
    max_drop: float | None = None
    rounds: int = 12
    seed: int = 0
    cache: bool = True
    force: bool = False
    example: Any = None
    inputs: Sequence[InputSpec] = ()
    progress: Progress | None = None
    outputs: Mapping[str, OutputKind] = field(default_factory=dict)
    tolerance: float | None = None


def quantize(
    source: ModelSource,
    data: Data | Source | None,
    *,
    out: str | Path,
    steps: Sequence[StepConfig] = (StaticInt8(),),
    way: Way | None = None,
    search_s: float = 300.0,
) -> Compression:
    """Write a model in int8: by default static int8 with ranges from a part of the data.

    ``steps`` are what is done, such as ``(Equalize(), StaticInt8(weights="w7"))``. Where they end
    in static int8 and lose more than ``way.max_drop``, blocks that stay in float are looked for,
    for at most ``search_s`` seconds. Raises an InputError for what cannot be used, RefusedError
    where a step cannot take the model.
    """
    return _alone(Recipe(tuple(steps)), source, _data(data), out, way, search_s=search_s)


def prune(
    source: ModelSource,
    data: Data | Source | None = None,
    *,
    out: str | Path,
    step: PruneChannels | Sparsify | None = None,
    way: Way | None = None,
) -> Compression:
    """Write a model with fewer channels, by default half of each layer's, or with zeros in it.

    A pruned model has lost accuracy until it is trained again. Raises as ``quantize`` does.
    """
    recipe = Recipe((step or PruneChannels(),))
    return _alone(recipe, source, _data(data), out, way)


def distill(
    teacher: ModelSource,
    student: ModelSource | PruneChannels,
    data: Data,
    *,
    out: str | Path,
    step: Distill | None = None,
    way: Way | None = None,
) -> Compression:
    """Train a student on a teacher's answers to ``data.training``, and write it.

    The teacher may be the URL of a served model; the student may be how the teacher is pruned.
    The figures are those of the teacher and the student, or of the student before and after where
    the teacher is behind a URL. Raises as ``quantize`` does, and ModelError for a teacher whose
    inputs or outputs are not the student's.
    """
    learning = step or Distill()
    if isinstance(student, PruneChannels):
        if _is_url(teacher):
            raise OptionError(
                expected="a student beside a teacher behind a URL",
                got="none",
                where="distill",
                hint="give --student",
            )
        recipe = Recipe((student, learning))
        return _alone(recipe, teacher, data, out, way)
    recipe = Recipe((learning,))
    return _alone(recipe, student, data, out, way, teacher=teacher)


def finetune(
    source: ModelSource,
    data: Data,
    *,
    out: str | Path,
    step: Finetune | TrainQuantized | None = None,
    teacher: ModelSource | None = None,
    way: Way | None = None,
) -> Compression:
    """Train a model further on ``data.training``, in float or for int8, and write it.

    Raises as ``distill`` does.
    """
    recipe = Recipe((step or Finetune(),))
    return _alone(recipe, source, data, out, way, teacher=teacher)


def _data(data: Data | Source | None) -> Data:
    return data if isinstance(data, Data) else Data(data)


def _alone(
    recipe: Recipe,
    source: ModelSource,
    data: Data,
    out: str | Path,
    way: Way | None,
    *,
    teacher: ModelSource | None = None,
    search_s: float = 0.0,
) -> Compression:
    """Apply the steps, measure what they made against what was there, and write it."""
    way, path = way or Way(), Path(out)
    kind = _kind(path)
    require_free_file(path, force=way.force)
    Budget(max_drop=way.max_drop or 0.0)  # raises for a drop that cannot be meant
    require_tolerance(way.tolerance)
    require_order(recipe)
    require_samples(recipe, data)
    with tempfile.TemporaryDirectory(prefix="hasten-") as name:
        read = _read(recipe, source, data, way, Path(name), teacher=teacher)
        context = replace(read.context, stopwatch=_stopwatch(read.context, kind))
        cache = StepCache.of_user() if way.cache else None
        chain = apply_recipe(read.model, recipe, context, cache)
        made, notes = chain.models[-1], chain.notes
        if recipe.keeps_batch_norms:
            made, said = cleaned(made, read.validation, context.scratch)
            notes = (*notes, *said)
        pair = measure_pair(*_sides(recipe, read, made), _measuring(read, way, kind))
        if _loses_too_much(pair, way) and search_s and isinstance(recipe.steps[-1], StaticInt8):
            made, reverted = _within_drop(read, chain, way, kind, search_s)
            notes = (*notes, *reverted)
            pair = measure_pair(*_sides(recipe, read, made), _measuring(read, way, kind))
        made = replace(made, torch=None, tflite=None)
        few = read.validation.select(range(min(_COMPARED_SAMPLES, len(read.validation))))
        added = float(10 ** (-least_sqnr_db(pair.outputs) / 20))
        target = Target(kind, path, tolerance=way.tolerance, kinds=way.outputs, added=added)
        written = convert_model(made, made, few, target, context.scratch)
    return Compression(
        source=read.model.name,
        path=str(path),
        steps=made.steps,
        pair=pair,
        agreement=written.agreement,
        unmet=tuple(_unmet(pair, way)),
        notes=(*read.notes, *notes, *written.notes),
    )


@dataclass(frozen=True, eq=False)
class _Read:
    """The model and the samples, and what there is to say of them."""

    model: Model
    validation: Samples
    metric: Metric
    context: Context
    notes: tuple[str, ...]


def _read(
    recipe: Recipe,
    source: ModelSource,
    data: Data,
    way: Way,
    scratch: Path,
    *,
    teacher: ModelSource | None,
) -> _Read:
    progress = way.progress or Quiet()
    with progress.stage("reading the model", None):
        model = load(
            source,
            way.example,
            inputs=way.inputs,
            scratch=scratch,
            keep_batch_norms=recipe.keeps_batch_norms,
        )
    calibration, validation, notes = read_divided(data, model, way.seed, scratch, progress)
    metric = resolve_metric(way.metric, validation)
    with progress.stage("cleaning the graph", None):
        # Cleaning folds batch norms too: what is trained is cleaned afterwards.
        left: list[str] = []
        if not recipe.trains_float:
            norms = recipe.keeps_batch_norms
            model, left = cleaned(model, validation, scratch, keep_batch_norms=norms)
        teaching: Model | str | None = None
        if _is_url(teacher):
            teaching = str(teacher)
        elif teacher is not None:
            teaching = load(teacher, way.example, inputs=way.inputs, scratch=scratch)
            teaching = cleaned(teaching, validation, scratch)[0]
    context = Context(
        scratch,
        calibration,
        validation.preprocessing,
        progress,
        training=read_training(data, model, recipe, scratch, progress),
        teacher=teaching,
    )
    return _Read(model, validation, metric, context, (*notes, *left))


def _sides(recipe: Recipe, read: _Read, made: Model) -> tuple[Model, Model, tuple[str, str]]:
    """Return what is compared, before and after, and how the two are called."""
    before, teacher = read.model, read.context.teacher
    labels = ("before", "after")
    if any(isinstance(step, Distill) for step in recipe.steps):
        labels = ("teacher", "student")
        if isinstance(teacher, Model):
            before = teacher
        elif teacher is not None:
            labels = ("untrained", "student")
    return (
        replace(before, torch=None, tflite=None),
        replace(made, torch=None, tflite=None),
        labels,
    )


def _within_drop(
    read: _Read, chain: Chain, way: Way, kind: Kind, search_s: float
) -> tuple[Model, tuple[str, ...]]:
    """Quantize again, with as many blocks in float as the allowed drop asks for."""
    context, base = read.context, chain.steps[-1]
    if context.calibration is None or not isinstance(base, StaticInt8) or way.max_drop is None:
        return chain.models[-1], ()
    found = quantize_within(
        chain.models[-2],
        calibration=context.calibration,
        validation=read.validation,
        metric=read.metric,
        max_drop=way.max_drop,
        scratch=Path(tempfile.mkdtemp(dir=context.scratch, prefix="mixed-")),
        runtimes=(_RUNTIMES[kind],),
        deadline=Deadline.after(search_s),
        progress=context.progress,
        base=base,
        kinds=way.outputs,
    )
    return found.model, found.notes


def _unmet(pair: Pair, way: Way) -> Iterator[str]:
    if way.max_drop is not None and pair.drop is None:
        yield f"a drop of at most {way.max_drop:g} of {pair.metric}: it could not be judged"
    if _loses_too_much(pair, way):
        yield f"{loss(pair.metric, pair.drop or 0.0)}, at most {way.max_drop:g} asked for"


def _loses_too_much(pair: Pair, way: Way) -> bool:
    if way.max_drop is None or pair.drop is None:
        return False
    return not is_within(pair.drop, way.max_drop)


def _measuring(read: _Read, way: Way, kind: Kind) -> Measuring:
    context = read.context
    return Measuring(
        read.validation,
        read.metric,
        _RUNTIMES[kind],
        way.rounds,
        way.seed,
        context.scratch,
        context.progress,
        way.outputs,
        Budget().max_drop if way.max_drop is None else way.max_drop,
    )


def _stopwatch(context: Context, kind: Kind) -> RuntimeStopwatch:
    return RuntimeStopwatch(context.scratch / "stopwatch", _RUNTIMES[kind])


def _is_url(source: object) -> bool:
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def _kind(path: Path) -> Kind:
    kind = path.suffix.removeprefix(".")
    if kind not in _RUNTIMES:
        raise OptionError(
            expected="a file that ends in .onnx or .tflite", got=path.name, where="--out"
        )
    return cast("Kind", kind)
