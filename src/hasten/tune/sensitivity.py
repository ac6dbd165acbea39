"""Sensitivity: what each block alone costs in accuracy as int8, and what time that buys.

A block is tried in float while all others are int8, not the other way round: that is the graph the
search begins from, with the borders, layouts and kernels that its blocks will meet, and noise that
a block adds is only told from noise that others add where theirs is there too.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from hasten.data import Score
from hasten.data.fidelity import least_sqnr_db
from hasten.graph import Block
from hasten.measure.clock import Deadline
from hasten.measure.statistics import TELLING_BLOCKS, Interval, Verdict, verdict
from hasten.progress import Progress
from hasten.tune.budget import Budget
from hasten.tune.judge import Judge
from hasten.tune.mixtures import ALL_INT8, Kept, Mixtures

__all__ = ["SCANNED_SAMPLES", "Sensitivity", "scan"]

#: The metric and the noise of each block are taken over at most so many samples.
SCANNED_SAMPLES = 300
_ROUNDS = 4
#: Share of the time after which judging makes way for timing.
_JUDGING_SHARE = 0.65


@dataclass(frozen=True)
class Sensitivity:
    """One block in float, all others in int8, against all int8.

    ``noise_removed`` is how much less noise the outputs have, as a share of that of all int8;
    ``regained`` how much of the metric comes back. ``speedup`` is over all int8: below 1, int8
    buys time. None is what there was no time for.
    """

    block: Block
    sqnr_db: float | None = None
    noise_removed: float = 0.0
    regained: float = 0.0
    speedup: Interval | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Whether float is faster or slower here; None where it was not timed."""
        return None if self.speedup is None else verdict(self.speedup)

    @property
    def time_lost(self) -> float:
        """What float costs, as a share of the latency of all int8; negative where it is faster."""
        return 0.0 if self.speedup is None else 1 / self.speedup.median - 1

    @property
    def resolution(self) -> float:
        """Half the width of the interval of ``time_lost``: less than this was not seen."""
        if self.speedup is None:
            return 0.0
        return (1 / self.speedup.low - 1 / self.speedup.high) / 2


def scan(
    mixtures: Mixtures, deadline: Deadline, progress: Progress, *, accuracy: bool = True
) -> list[Sensitivity]:
    """Try every block alone in float, in the order of the graph.

    After the deadline nothing is begun: the rest comes back as not known. Blocks that seem faster
    in float are timed again in more processes: one tells nothing of how processes differ. Without
    ``accuracy`` only times are taken.
    """
    alone: dict[Block, Kept] = {block: frozenset({block.name}) for block in mixtures.blocks}
    scores: dict[Kept, Score] = {}
    if accuracy:
        judging_until = deadline.after_share(_JUDGING_SHARE)
        scores = _scores(mixtures, (ALL_INT8, *alone.values()), judging_until, progress)
    with progress.stage("sensitivity: time", len(alone)) as advance:
        mixtures.time(alone.values(), _ROUNDS, deadline=deadline, advance=advance)
        measured = [kept for kept in alone.values() if kept in mixtures.speedups]
        seem_faster = [one for one in measured if verdict(mixtures.speedups[one]) == "faster"]
        mixtures.time(seem_faster, _ROUNDS, blocks=TELLING_BLOCKS, deadline=deadline)
    whole = scores.get(ALL_INT8)
    return [
        _sensitivity(block, whole, scores.get(kept), mixtures.speedups.get(kept))
        for block, kept in alone.items()
    ]


def _scores(
    mixtures: Mixtures, wanted: Collection[Kept], deadline: Deadline, progress: Progress
) -> dict[Kept, Score]:
    """Judge these on a few samples, as long as there is time."""
    scores: dict[Kept, Score] = {}
    judge = _few_samples(mixtures.judge)
    with progress.stage("sensitivity: accuracy", len(wanted)) as advance:
        for kept in wanted:
            if not deadline.passed:
                one = mixtures.copy(kept)
                judge.judge(one)
                if one.score is not None:
                    scores[kept] = one.score
            advance(1)
    return scores


def _sensitivity(
    block: Block, whole: Score | None, alone: Score | None, speedup: Interval | None
) -> Sensitivity:
    if whole is None or alone is None:
        return Sensitivity(block, speedup=speedup)
    before, after = (10 ** (-least_sqnr_db(score.outputs) / 10) for score in (whole, alone))
    return Sensitivity(
        block,
        least_sqnr_db(alone.outputs),
        (before - after) / before,
        alone.value - whole.value,
        speedup,
    )


def _few_samples(judge: Judge) -> Judge:
    """Return a judge like this one, of a few samples from all over."""
    count = len(judge.validation)
    rows = np.linspace(0, count - 1, min(SCANNED_SAMPLES, count)).round().astype(np.int64)
    few = judge.validation.select(rows)
    folder = judge.scratch / "scanned"
    few.save(folder)
    # A scan leaves nobody out: that a block alone does not bring the metric back is expected.
    return judge.among(few, folder, rows, Budget(max_drop=sys.float_info.max))
