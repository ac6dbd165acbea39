"""Mixed precision within a budget: which blocks stay in float, from what each costs and buys.

Blocks whose int8 buys no time are reverted first, alone or in a run from either end; then whole
blocks by the accuracy regained for the time lost, until the metric holds; then those that turn out
harmless are quantized again. All mixtures on the way are timed side by side, and what no other
beats in both is the frontier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from hasten.bundle.manifest import PrecisionPoint
from hasten.errors import RefusedError
from hasten.graph import Model
from hasten.measure.clock import Deadline
from hasten.measure.statistics import TELLING_BLOCKS, verdict
from hasten.progress import Advance, Progress
from hasten.tune.budget import is_within
from hasten.tune.candidate import Contestant
from hasten.tune.mixtures import ALL_INT8, Kept, Mixtures
from hasten.tune.reversion import by_accuracy, by_ratio, costless, requantize, revert
from hasten.tune.sensitivity import Sensitivity, scan

__all__ = ["MixedPrecision", "search"]

_ROUNDS = 4
_FINALISTS = 4
#: Shares of the time after which the scan, and the search, make way for what follows.
_SCAN_SHARE = 0.4
_RUNS_SHARE = 0.3
_SEARCH_SHARE = 0.6
#: Places at which a run of blocks from either end may stop, and how many runs are looked into.
_RUN_ENDS = 8
_FASTEST = 3


@dataclass(frozen=True, eq=False)
class MixedPrecision:
    """What a search in one runtime found.

    ``points`` are the frontier, the fastest first. ``chosen`` names the float blocks of the fastest
    mixture within the budget, or of the one that loses least where none is. ``notes`` say where
    there was nothing to gain, and what there was no time for.
    """

    mixtures: Mixtures
    sensitivities: tuple[Sensitivity, ...]
    points: tuple[PrecisionPoint, ...]
    chosen: Kept
    notes: tuple[str, ...]

    @property
    def drop(self) -> float:
        """What the chosen mixture loses of the metric; infinite where it could not be judged."""
        return self.mixtures.drop(self.chosen)

    @property
    def point(self) -> PrecisionPoint | None:
        """The chosen mixture as a point; None where there was no time to time it."""
        return self.mixtures.point(self.chosen)

    def contestant(self) -> Contestant | None:
        """Return the chosen mixture for a race, where it is a mixture and not one kind alone."""
        if self.chosen in {ALL_INT8, self.mixtures.all_float}:
            return None
        return self.mixtures.copy(self.chosen)

    @property
    def model(self) -> Model:
        """The chosen mixture; raises RefusedError where not even that could be built."""
        made = self.mixtures.contestant(self.chosen)
        if made.model is None:
            raise RefusedError(made.reason)
        return made.model


def search(
    mixtures: Mixtures,
    *,
    max_drop: float,
    deadline: Deadline,
    progress: Progress,
    holds: bool = False,
) -> MixedPrecision:
    """Find the fastest mixture that loses at most ``max_drop``.

    ``holds`` says that all int8 does: then only blocks whose int8 buys no time are looked for. When
    the deadline comes, the best so far is returned. Raises RuntimeFailureError where all int8
    cannot be run, and RefusedError where the graph is not to be quantized.
    """
    found = scan(mixtures, deadline.after_share(_SCAN_SHARE), progress, accuracy=not holds)
    starts = _starts(mixtures, found, deadline.after_share(_RUNS_SHARE), progress)
    until = deadline.after_share(_SEARCH_SHARE)
    with progress.stage("searching mixtures", None) as advance:
        states = _visited(mixtures, found, starts, max_drop=max_drop, until=until, advance=advance)
    with progress.stage("timing mixtures", len(states)) as advance:
        mixtures.time(states, _ROUNDS, deadline=deadline, advance=advance)
    timed = [kept for kept in states if kept in mixtures.speedups]
    holding = [kept for kept in timed if is_within(mixtures.drop(kept), max_drop)]
    finalists = sorted(holding, key=lambda kept: -mixtures.speedups[kept].median)[:_FINALISTS]
    with progress.stage("confirming mixtures", len(finalists)) as advance:
        mixtures.time(finalists, _ROUNDS, blocks=TELLING_BLOCKS, deadline=deadline, advance=advance)
    chosen = _chosen(mixtures, states, finalists)
    notes = tuple(_notes(mixtures, found, chosen, max_drop))
    return MixedPrecision(mixtures, tuple(found), _frontier(mixtures, timed), chosen, notes)


def _starts(
    mixtures: Mixtures, found: Sequence[Sensitivity], until: Deadline, progress: Progress
) -> list[Kept]:
    """Return what is reverted for the sake of time alone: blocks one by one, and what is fastest.

    Whether int8 buys time does not show in one block alone where its conversions at both borders
    cost what the block saves: several blocks in a row have but two borders.
    """
    free = costless(found)
    tried = list(dict.fromkeys([free, *_runs(mixtures), mixtures.all_float]))
    with progress.stage("timing runs of blocks", len(tried)) as advance:
        mixtures.time(tried, _ROUNDS, deadline=until, advance=advance)
        timed = [kept for kept in tried if kept in mixtures.speedups]
        fastest = sorted(timed, key=lambda kept: -mixtures.speedups[kept].median)[:_FASTEST]
        mixtures.time(fastest, _ROUNDS, blocks=TELLING_BLOCKS, deadline=until)
    faster = [kept for kept in fastest if verdict(mixtures.speedups[kept]) == "faster"]
    return list(dict.fromkeys([free, *faster]))


def _runs(mixtures: Mixtures) -> Iterator[Kept]:
    """Yield runs of blocks from the first on, and of those up to the last."""
    names = [block.name for block in mixtures.blocks]
    ends = min(_RUN_ENDS, len(names) - 1)
    for at in range(1, ends + 1):
        end = round(at * len(names) / (ends + 1))
        yield frozenset(names[:end])
        yield frozenset(names[end:])


def _visited(
    mixtures: Mixtures,
    found: Sequence[Sensitivity],
    starts: Sequence[Kept],
    *,
    max_drop: float,
    until: Deadline,
    advance: Advance,
) -> list[Kept]:
    """Return every mixture that was looked at; all int8 is the first and all float the last."""
    states: list[Kept] = [ALL_INT8, *starts]

    def drop(kept: Kept) -> float:
        advance(1)
        return mixtures.drop(kept)

    # The order by accuracy alone is tried too: pruned, what it finds may be faster still.
    for start, order in product(starts, (by_ratio(found), by_accuracy(found))):
        reverted = revert(start, order, drop, max_drop, until)
        states += reverted
        # What is float for the sake of time stays so, unless int8 is faster even alone.
        doubtful = [one for one in found if one.block.name not in start or one.verdict == "slower"]
        if not until.passed and is_within(drop(reverted[-1]), max_drop):
            states += requantize(reverted[-1], doubtful, drop, max_drop, until)
    return list(dict.fromkeys([*states, mixtures.all_float]))


def _chosen(mixtures: Mixtures, states: Sequence[Kept], finalists: Sequence[Kept]) -> Kept:
    """Return the fastest finalist; without one, the mixture that is known to lose least."""
    if finalists:
        return max(finalists, key=lambda kept: mixtures.speedups[kept].median)
    judged = [kept for kept in states if mixtures.is_judged(kept)]
    return min(judged, key=mixtures.drop, default=mixtures.all_float)


def _frontier(mixtures: Mixtures, timed: Iterable[Kept]) -> tuple[PrecisionPoint, ...]:
    """Return the mixtures that no other is both faster and more accurate than, fastest first."""
    points: list[PrecisionPoint] = []
    ranked = sorted(timed, key=lambda kept: (-mixtures.speedups[kept].median, mixtures.drop(kept)))
    for kept in ranked:
        point = mixtures.point(kept)
        if point is not None and (not points or point.drop < points[-1].drop):
            points.append(point)
    return tuple(points)


def _notes(
    mixtures: Mixtures, found: Sequence[Sensitivity], chosen: Kept, max_drop: float
) -> Iterable[str]:
    """Say what there was to be gained, and what was not."""
    where, count = f"mixed precision in {mixtures.base.runtime}", len(mixtures.blocks)
    unknown = sum(one.speedup is None for one in found)
    free = len(costless(found))
    if unknown:
        yield f"{where}: {unknown} of {count} blocks were not tried: the time was up"
    if free:
        yield f"{where}: {free} of {count} blocks are faster in float than in int8"
    if not is_within(mixtures.drop(chosen), max_drop):
        yield (
            f"{where}: no mixture that was tried is within the budget; the best loses"
            f" {mixtures.drop(chosen):.4f}, {max_drop:g} is allowed"
        )
    elif chosen == ALL_INT8:
        yield f"{where}: nothing to gain, all int8 is within the budget and none is faster"
    elif chosen == mixtures.all_float:
        yield f"{where}: nothing to gain, none within the budget is faster than all float"
