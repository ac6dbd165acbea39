"""Quantizing alone: a model in, the model back with as much in int8 as the metric allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from hasten.bundle.manifest import PrecisionPoint
from hasten.compress import Context, StaticInt8, StepConfig
from hasten.data import Metric, Samples
from hasten.data.meaning import OutputKind
from hasten.errors import RefusedError, RuntimeFailureError
from hasten.graph import Model
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.progress import Progress, Quiet
from hasten.runtimes import Execution, get_runtime
from hasten.tune.budget import Budget, is_within
from hasten.tune.build import Builder
from hasten.tune.calibrators import rank_calibrators, with_calibrator
from hasten.tune.candidate import Candidate
from hasten.tune.judge import Judge
from hasten.tune.mixed_precision import MixedPrecision, search
from hasten.tune.mixtures import Mixtures
from hasten.tune.space import step_chains

__all__ = ["Quantized", "int8_steps", "quantize_within"]


@dataclass(frozen=True, eq=False)
class Quantized:
    """The model, how it came about, and the frontier of every runtime that was tried.

    ``chosen`` is the point that the model is, or None where there was no time to time it.
    """

    model: Model
    candidate: Candidate
    chosen: PrecisionPoint | None
    drop: float
    points: tuple[PrecisionPoint, ...]
    searches: tuple[MixedPrecision, ...]
    notes: tuple[str, ...]


def quantize_within(
    model: Model,
    *,
    calibration: Samples,
    validation: Samples,
    metric: Metric,
    max_drop: float,
    scratch: Path,
    runtimes: Sequence[str] = ("onnxruntime",),
    deadline: Deadline | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    base: StaticInt8 | None = None,
    kinds: Mapping[str, OutputKind] = MappingProxyType({}),
) -> Quantized:
    """Quantize a model, with as many blocks in float as ``max_drop`` of the metric asks for.

    Each runtime has an equal share of the time, and the best so far is returned when it is up.
    ``base`` says what int8 blocks become; without it, unsigned activations with the ranges that
    keep most of the calibration outputs. ``kinds`` are what the user says outputs are. Raises
    RefusedError with the reasons where no runtime can run the model in int8.
    """
    progress, deadline = progress or Quiet(), deadline or Deadline.after(None)
    threads = threads or physical_cores()
    builder = Builder(model, Context(scratch, calibration, validation.preprocessing, progress))
    staged = scratch / "validation"
    validation.save(staged)
    budget = Budget(max_drop=max_drop)
    judge = Judge(metric, budget, validation, staged, scratch, deadline, kinds)
    with progress.stage("judging the reference", None):
        home = Candidate((), "onnxruntime", Execution(threads))
        judge.judge_reference(builder.contestant(home))
    searches: list[MixedPrecision] = []
    refusals: list[str] = []
    for at, name in enumerate(runtimes):
        steps = int8_steps(builder, name, threads, base, progress)
        until = deadline.after_share(1 / (len(runtimes) - at))
        mixtures = Mixtures(builder, Candidate(steps, name, Execution(threads)), judge, until)
        try:
            found = search(mixtures, max_drop=max_drop, deadline=until, progress=progress)
        except (RefusedError, RuntimeFailureError) as refused:
            refusals.append(f"{name}: {refused}")
        else:
            searches.append(found)
    if not searches:
        raise RefusedError("; ".join(refusals) or "no runtime was named")
    return _best(searches, refusals, max_drop)


def int8_steps(
    builder: Builder, runtime: str, threads: int, base: StaticInt8 | None, progress: Progress
) -> tuple[StepConfig, ...]:
    """Return the chain that ends in static int8 of all blocks, as it suits the runtime."""
    chains = [
        chain
        for chain in step_chains(
            foldable=bool(builder.context.preprocessing),
            saturating=get_runtime(runtime).probe().int8_saturates,
        )
        if chain and isinstance(chain[-1], StaticInt8)
    ]
    first = chains[0]
    if base is not None:
        return (*first[:-1], base)
    alike = [one for one in chains if with_calibrator(one, "minmax") == first]
    ranked = rank_calibrators(builder, alike, threads, progress)
    return with_calibrator(first, next(iter(ranked), "minmax"))


def _best(
    searches: Sequence[MixedPrecision], refusals: Sequence[str], max_drop: float
) -> Quantized:
    """Choose over all runtimes: the fastest within the budget, else what loses least."""

    def worth(one: MixedPrecision) -> tuple[bool, float]:
        point = one.point
        if point is None or not is_within(one.drop, max_drop):
            return True, one.drop
        return False, point.latency_ms

    best = min(searches, key=worth)
    return Quantized(
        model=best.model,
        candidate=best.mixtures.candidate(best.chosen),
        chosen=best.point,
        drop=best.drop,
        points=tuple(point for one in searches for point in one.points),
        searches=tuple(searches),
        notes=(*refusals, *(note for one in searches for note in one.notes)),
    )
