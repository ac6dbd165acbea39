"""Mixed precision within a budget: which blocks stay in float, from what each costs and buys.

Blocks whose int8 buys no time are reverted first, then whole blocks by the accuracy regained for
the time lost, until the metric holds; then those that turn out harmless are quantized again. All
mixtures on the way are timed side by side, and what no other beats in both is the frontier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hasten.bundle.manifest import PrecisionPoint
from hasten.compress import Context, StaticInt8, StepConfig
from hasten.data import Metric, Samples
from hasten.errors import RefusedError, RuntimeFailureError
from hasten.graph import Model
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.measure.statistics import Interval
from hasten.progress import Progress, Quiet
from hasten.runtimes import Execution, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.build import Builder
from hasten.tune.calibrators import rank_calibrators, with_calibrator
from hasten.tune.candidate import Candidate
from hasten.tune.judge import Judge
from hasten.tune.mixtures import ALL_INT8, Kept, Mixtures
from hasten.tune.reversion import by_accuracy, by_ratio, costless, requantize, revert
from hasten.tune.sensitivity import Sensitivity, scan
from hasten.tune.space import step_chains

__all__ = ["MixedPrecision", "Search", "quantize_within", "search"]

_ROUNDS = 4
_FINAL_ROUNDS = 4
_FINAL_BLOCKS = 3
_FINALISTS = 4
#: Shares of the time after which the scan, and the search, make way for what follows.
_SCAN_SHARE = 0.5
_SEARCH_SHARE = 0.75
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Search:
    """What a search in one runtime found.

    ``points`` are the frontier, the fastest first. ``chosen`` is the fastest mixture within the
    budget, or the one that loses least where none is.
    """

    mixtures: Mixtures
    sensitivities: tuple[Sensitivity, ...]
    points: tuple[PrecisionPoint, ...]
    chosen: Kept
    notes: tuple[str, ...]

    @property
    def model(self) -> Model:
        """The chosen mixture."""
        model = self.mixtures.contestant(self.chosen).model
        if model is None:
            raise RefusedError(self.mixtures.contestant(self.chosen).reason)
        return model

    @property
    def point(self) -> PrecisionPoint | None:
        """The chosen mixture as a point; None where there was no time to time it."""
        kept = self.mixtures.in_order(self.chosen)
        return next((one for one in self.points if one.float_blocks == kept), None)


@dataclass(frozen=True, eq=False)
class MixedPrecision:
    """The frontier over all runtimes, the point that was chosen, and its model."""

    points: tuple[PrecisionPoint, ...]
    chosen: PrecisionPoint | None
    candidate: Candidate
    model: Model
    searches: tuple[Search, ...]
    notes: tuple[str, ...]


def search(mixtures: Mixtures, *, max_drop: float, deadline: Deadline, progress: Progress) -> Search:
    """Find the fastest mixture that loses at most ``max_drop``.

    When the deadline comes, the best so far is returned. Raises RuntimeFailureError where all int8
    cannot be run, RefusedError where the graph is a single block.
    """
    left_s = deadline.left_s
    scan_until = deadline.earlier_by(left_s * (1 - _SCAN_SHARE)) if left_s < _ENDLESS else deadline
    until = deadline.earlier_by(left_s * (1 - _SEARCH_SHARE)) if left_s < _ENDLESS else deadline
    found = scan(mixtures, scan_until, progress)
    states = _visited(mixtures, found, max_drop, until, progress)
    with progress.stage("timing mixtures", len(states)) as advance:
        mixtures.time(states, _ROUNDS, deadline=deadline, advance=advance)
    timed = [kept for kept in states if kept in mixtures.speedups]
    holding = [kept for kept in timed if mixtures.drop(kept) <= max_drop + _ROUNDING]
    finalists = sorted(holding, key=lambda kept: -mixtures.speedups[kept].median)[:_FINALISTS]
    with progress.stage("confirming mixtures", len(finalists)) as advance:
        mixtures.time(
            finalists, _FINAL_ROUNDS, blocks=_FINAL_BLOCKS, deadline=deadline, advance=advance
        )
    chosen = _chosen(mixtures, states, finalists)
    return Search(
        mixtures,
        tuple(found),
        _frontier(mixtures, timed),
        chosen,
        tuple(_notes(mixtures, found, chosen, max_drop, deadline)),
    )


_ENDLESS = float("inf")


def _visited(
    mixtures: Mixtures,
    found: Sequence[Sensitivity],
    max_drop: float,
    until: Deadline,
    progress: Progress,
) -> list[Kept]:
    """Return every mixture that was looked at; all int8 is the first and all float the last."""
    states: list[Kept] = [ALL_INT8]
    with progress.stage("searching mixtures", None) as advance:

        def drop(kept: Kept) -> float:
            advance(1)
            return mixtures.drop(kept)

        # The order by accuracy alone is tried too: what it finds, pruned, may be faster still.
        for order in (by_ratio(found), by_accuracy(found)):
            reverted = revert(costless(found), order, drop, max_drop, until)
            states += reverted
            if not until.passed and drop(reverted[-1]) <= max_drop:
                states += requantize(reverted[-1], found, drop, max_drop, until)
    return list(dict.fromkeys([*states, mixtures.all_float]))


def _chosen(mixtures: Mixtures, states: Sequence[Kept], finalists: Sequence[Kept]) -> Kept:
    """Return the fastest finalist; without one, the mixture that is known to lose least."""
    if finalists:
        return max(finalists, key=lambda kept: mixtures.speedups[kept].median)
    judged = [kept for kept in states if mixtures.contestant(kept).score is not None]
    return min(judged, key=mixtures.drop, default=mixtures.all_float)


def _frontier(mixtures: Mixtures, timed: Iterable[Kept]) -> tuple[PrecisionPoint, ...]:
    """Return the mixtures that no other is both faster and more accurate than, fastest first."""
    points: list[PrecisionPoint] = []
    ranked = sorted(timed, key=lambda kept: (-mixtures.speedups[kept].median, mixtures.drop(kept)))
    for kept in ranked:
        if not points or mixtures.drop(kept) < points[-1].drop:
            points.append(point_of(mixtures, kept))
    return tuple(points)


def point_of(mixtures: Mixtures, kept: Kept) -> PrecisionPoint:
    """Return a mixture that was judged and timed as a point."""
    return PrecisionPoint(
        runtime=mixtures.base.runtime,
        float_blocks=mixtures.in_order(kept),
        blocks=len(mixtures.blocks),
        drop=mixtures.drop(kept),
        latency_ms=mixtures.latency_ms(kept),
        speedup=mixtures.speedups[kept],
        size_bytes=mixtures.contestant(kept).size_bytes,
    )


def _notes(
    mixtures: Mixtures,
    found: Sequence[Sensitivity],
    chosen: Kept,
    max_drop: float,
    deadline: Deadline,
) -> Iterable[str]:
    """Say what there was to be gained, and what was not."""
    runtime, count = mixtures.base.runtime, len(mixtures.blocks)
    free = costless(found)
    unknown = sum(one.sqnr_db is None or one.speedup is None for one in found)
    if unknown:
        yield f"{runtime}: {unknown} of {count} blocks were not tried: the time was up"
    if free:
        yield f"{runtime}: {len(free)} of {count} blocks are faster in float than in int8"
    if chosen == ALL_INT8:
        yield f"{runtime}: nothing to gain: all int8 keeps the budget and no mixture is faster"
    elif chosen == mixtures.all_float:
        yield f"{runtime}: nothing to gain: no mixture within the budget is faster than all float"
    lost = mixtures.drop(chosen)
    if lost > max_drop + _ROUNDING:
        yield (
            f"{runtime}: the mixture chosen loses {lost:.4f}, {max_drop:g} is allowed"
            f"{': the time was up' if deadline.passed else ''}"
        )


def quantize_within(
    model: Model,
    *,
    calibration: Samples,
    validation: Samples,
    metric: Metric,
    max_drop: float,
    runtimes: Sequence[str] = ("onnxruntime",),
    deadline: Deadline | None = None,
    scratch: Path,
    progress: Progress | None = None,
    threads: int | None = None,
    base: StaticInt8 | None = None,
) -> MixedPrecision:
    """Quantize a model, with as many blocks in float as ``max_drop`` of the metric asks for.

    Each runtime has an equal share of the time. ``base`` is what the other blocks become; without
    it, ranges come from the calibrator that keeps most of the calibration outputs. Raises
    RefusedError where no runtime can run the model in int8, with the reasons.
    """
    progress, deadline = progress or Quiet(), deadline or Deadline.after(None)
    threads = threads or physical_cores()
    builder = Builder(model, Context(scratch, calibration, validation.preprocessing, progress))
    staged = scratch / "validation"
    validation.save(staged)
    judge = Judge(metric, Budget(max_drop=max_drop), validation, staged, scratch, deadline)
    with progress.stage("judging the reference", None):
        judge.judge_reference(
            builder.contestant(Candidate((), "onnxruntime", Execution(threads=threads)))
        )
    searches: list[Search] = []
    refusals: list[str] = []
    for at, name in enumerate(runtimes):
        steps = _base_steps(builder, name, threads, base, progress)
        mixtures = Mixtures(
            builder, Candidate(steps, name, Execution(threads=threads)), judge, deadline
        )
        left_s = deadline.left_s
        share = left_s * (1 - 1 / (len(runtimes) - at)) if left_s < _ENDLESS else 0.0
        try:
            searches.append(
                search(
                    mixtures,
                    max_drop=max_drop,
                    deadline=deadline.earlier_by(share),
                    progress=progress,
                )
            )
        except (RefusedError, RuntimeFailureError) as refused:
            refusals.append(f"{name}: {refused}")
    if not searches:
        raise RefusedError("; ".join(refusals) or "no runtime was named")
    return _result(searches, refusals, max_drop)


def _base_steps(
    builder: Builder, runtime: str, threads: int, base: StaticInt8 | None, progress: Progress
) -> tuple[StepConfig, ...]:
    """Return the chain that ends in static int8 of all blocks, as it suits the runtime."""
    saturates = get_runtime(runtime).probe().int8_saturates
    foldable = bool(builder.context.preprocessing)
    chains = [
        chain
        for chain in step_chains(foldable=foldable, saturating=saturates)
        if chain and isinstance(chain[-1], StaticInt8)
    ]
    if base is not None:
        return (*chains[0][:-1], base)
    first = chains[0]
    same = [chain for chain in chains if _but_calibrator(chain) == _but_calibrator(first)]
    ranked = rank_calibrators(builder, same, threads, progress)
    return with_calibrator(first, next(iter(ranked), "minmax"))


def _but_calibrator(chain: tuple[StepConfig, ...]) -> tuple[StepConfig, ...]:
    return with_calibrator(chain, "minmax")


def _result(
    searches: Sequence[Search], refusals: Sequence[str], max_drop: float
) -> MixedPrecision:
    """Choose over all runtimes: the fastest within the budget, else the one that loses least."""
    def worth(one: Search) -> tuple[bool, float]:
        drop, point = one.mixtures.drop(one.chosen), one.point
        holds = drop <= max_drop + _ROUNDING and point is not None
        return (not holds, point.latency_ms if holds and point is not None else drop)

    best = min(searches, key=worth)
    return MixedPrecision(
        points=tuple(point for one in searches for point in one.points),
        chosen=best.point,
        candidate=best.mixtures.contestant(best.chosen).candidate,
        model=best.model,
        searches=tuple(searches),
        notes=(*refusals, *(note for one in searches for note in one.notes)),
    )


Speed = Callable[[Kept], Interval]
