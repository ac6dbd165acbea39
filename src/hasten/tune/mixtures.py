"""Mixtures of int8 and float blocks of one model in one runtime: built, judged and timed."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from hasten.bundle.manifest import PrecisionPoint
from hasten.compress import StaticInt8
from hasten.errors import RefusedError, RuntimeFailureError
from hasten.graph import Block, blocks
from hasten.measure.clock import Deadline
from hasten.measure.statistics import Interval
from hasten.progress import Advance, ignore
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.heat import Heats
from hasten.tune.judge import Judge

__all__ = ["ALL_INT8", "Kept", "Mixtures"]

#: Names of the blocks that are kept in float.
Kept = frozenset[str]

ALL_INT8: Kept = frozenset()

#: So many are timed at once, beside the one that is all int8.
_LANES = 6


@dataclass(eq=False)
class Mixtures:
    """Everything known of the mixtures of one plan.

    ``base`` is the plan with all blocks in int8: its last step is a StaticInt8. ``judge`` holds
    them to the metric, and knows the reference already. ``speedups`` are over the base, from rounds
    in which it ran too.
    """

    builder: Builder
    base: Candidate
    judge: Judge
    deadline: Deadline
    seed: int = 0
    speedups: dict[Kept, Interval] = field(default_factory=dict)
    _made: dict[Kept, Contestant] = field(default_factory=dict)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of the graph that is quantized."""
        return blocks(self.builder.apply(self.base.steps[:-1]).graph)

    @property
    def all_float(self) -> Kept:
        """The mixture without int8."""
        return frozenset(block.name for block in self.blocks)

    def in_order(self, kept: Collection[str]) -> tuple[str, ...]:
        """Return the names in the order of the graph."""
        return tuple(block.name for block in self.blocks if block.name in kept)

    def candidate(self, kept: Kept) -> Candidate:
        """Return the plan that keeps these blocks in float."""
        *before, last = self.base.steps
        if not isinstance(last, StaticInt8):
            raise RefusedError("mixed precision begins from a static int8 plan")
        if kept == self.all_float:
            return msgspec.structs.replace(self.base, steps=tuple(before))
        step = msgspec.structs.replace(last, float_blocks=self.in_order(kept))
        return msgspec.structs.replace(self.base, steps=(*before, step))

    def contestant(self, kept: Kept) -> Contestant:
        """Build the mixture, once; one that is refused carries the reason."""
        if kept not in self._made:
            self._made[kept] = self.builder.contestant(self.candidate(kept))
        return self._made[kept]

    def copy(self, kept: Kept) -> Contestant:
        """Return the mixture, as it was built, for another to judge or time."""
        made = self.contestant(kept)
        copied = Contestant(made.candidate, made.model, made.lowered)
        if made.lowered is None:
            copied.drop(made.status, made.reason)
        return copied

    def drop(self, kept: Kept) -> float:
        """How much of the metric is lost against the reference; negative where it gained.

        Infinite where it cannot be told, or where an output is ruined that the metric does not see.
        """
        made = self.contestant(kept)
        if made.score is None and made.lowered is not None and made.status != "failed":
            self.judge.judge(made)
        lost = self.judge.drop_of(made)
        return math.inf if lost is None or self.judge.ruined(made) else lost

    @cached_property
    def heats(self) -> Heats:
        """Heats in which all int8 is the reference."""
        order = random.Random(self.seed)  # noqa: S311 - an order of rounds, not a secret
        judge = self.judge
        return Heats(
            self.copy(ALL_INT8), judge.folder, judge.scratch, "latency", order, self.deadline
        )

    def time(
        self,
        mixtures: Iterable[Kept],
        rounds: int,
        *,
        blocks: int = 1,
        deadline: Deadline | None = None,
        advance: Advance = ignore,
    ) -> None:
        """Measure these beside all int8, a few at a time; those without a turn stay unknown.

        Raises RuntimeFailureError where all int8 itself fails.
        """
        if self.heats.reference.lowered is None:
            raise RuntimeFailureError(self.heats.reference.reason)
        wanted = [kept for kept in dict.fromkeys(mixtures) if kept != ALL_INT8]
        for first in range(0, len(wanted), _LANES):
            lanes = {self.copy(kept): kept for kept in wanted[first : first + _LANES]}
            able = [one for one in lanes if one.lowered is not None]
            result = self.heats.heat(able, rounds, blocks=blocks, deadline=deadline)
            for one in result.measured:
                self.speedups[lanes[one]] = result.speedup(one)
            advance(len(lanes))
        if self.heats.reference.measurement.measured_rounds:
            self.speedups[ALL_INT8] = Interval(1.0, 1.0, 1.0)

    def is_judged(self, kept: Kept) -> bool:
        """Whether its drop is known already."""
        made = self._made.get(kept)
        return made is not None and made.score is not None

    def point(self, kept: Kept) -> PrecisionPoint | None:
        """Return a mixture with what is known of it; None unless it was timed and judged.

        Its latency is that of all int8, over how much faster it is: both have met one weather.
        """
        if kept not in self.speedups or not self.is_judged(kept):
            return None
        base_ms = self.heats.reference.measurement.latency("latency").p50
        return PrecisionPoint(
            runtime=self.base.runtime,
            float_blocks=self.in_order(kept),
            blocks=len(self.blocks),
            drop=self.drop(kept),
            latency_ms=base_ms / self.speedups[kept].median,
            speedup=self.speedups[kept],
            size_bytes=self.contestant(kept).size_bytes,
        )
