"""Mixing in a race: which plan is worth a search for float blocks, and whether there is time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hasten.compress import StaticInt8
from hasten.measure.clock import Deadline
from hasten.progress import Progress
from hasten.tune.build import Builder
from hasten.tune.candidate import Contestant
from hasten.tune.judge import Judge
from hasten.tune.mixed_precision import MixedPrecision, search
from hasten.tune.mixtures import Mixtures

__all__ = ["Mixing"]

#: To build, open and time a mixture takes about this long, and so many are tried for each block.
_MIXTURE_S = 0.8
_MIXTURES = 3


@dataclass(eq=False)
class Mixing:
    """Searches for mixtures on behalf of a race."""

    builder: Builder
    judge: Judge
    seed: int
    progress: Progress

    def plan(
        self, contestants: Iterable[Contestant], leader: Contestant | None
    ) -> Contestant | None:
        """Return the fastest static int8 plan ahead of all whose accuracy holds, or the leader.

        The leader only where it is one: then float blocks may still be faster. None where no
        mixture could win.
        """
        ahead = max(1.0, _median(leader))
        over = [one for one in contestants if self._loses_too_much(one) and _median(one) > ahead]
        if over:
            return max(over, key=_median)
        return leader if leader is not None and _is_static_int8(leader) else None

    def search(self, plan: Contestant, until: Deadline) -> MixedPrecision | None:
        """Search mixtures of this plan; None where all int8 will do and there is little time."""
        holds = plan.racing
        mixtures = Mixtures(self.builder, plan.candidate, self.judge, until, self.seed)
        if holds and until.left_s < _MIXTURE_S * _MIXTURES * len(mixtures.blocks):
            return None
        max_drop = self.judge.budget.max_drop
        return search(
            mixtures, max_drop=max_drop, deadline=until, progress=self.progress, holds=holds
        )

    def _loses_too_much(self, one: Contestant) -> bool:
        """Whether its accuracy is why it is out, and not its size or memory."""
        if one.status != "over_budget" or not _is_static_int8(one):
            return False
        memory_bytes = one.measurement.peak_memory_bytes
        return not self.judge.budget.missed(one.size_bytes, memory_bytes)


def _is_static_int8(contestant: Contestant) -> bool:
    steps = contestant.candidate.steps
    return bool(steps) and isinstance(steps[-1], StaticInt8)


def _median(contestant: Contestant | None) -> float:
    return contestant.speedup.median if contestant is not None and contestant.speedup else 0.0
