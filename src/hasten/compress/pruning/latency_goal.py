"""Channels left for a latency: measured, allocated, measured again.

What a channel costs is not in its multiplications: kernels pad to the width of a vector, and wait
for memory. So the nodes that a group goes through are timed at several counts, on the runtime that
will run them, as in Yang et al., "NetAdapt", ECCV 2018 (arXiv 1804.03230).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.pruning.allocation import Cost, Counts, allocate, floor, most_important
from hasten.compress.pruning.groups import ChannelMap
from hasten.compress.pruning.importance import Importances
from hasten.compress.pruning.removal import pruned
from hasten.compress.pruning.touched_part import part, touched_nodes
from hasten.compress.step import Stopwatch
from hasten.errors import RefusedError
from hasten.graph import Model, signature_of
from hasten.progress import Progress

if TYPE_CHECKING:
    import onnx

__all__ = ["LatencyGoal"]

#: One table of costs is good for a step down to this share of the latency: farther away, a layer
#: that has lost channels on both sides costs less than the two tables say.
_STAGE = 0.7
#: Shares of a group's channels at which it is measured.
_POINTS = (0.75, 0.5, 0.25)
_TABLE_ROUNDS = 3
_CHECK_ROUNDS = 15
#: Rounds that decide. Of several short checks, one that is near enough is often a lucky one.
_CONFIRMING_ROUNDS = 60
#: How often the goal is corrected by what was measured.
_ATTEMPTS = 5
#: What is steered to, as a share of what was asked for, and what is near enough: a little below, so
#: that it holds when it is measured again.
_AIM, _NEAREST, _FARTHEST = 0.97, 0.995, 0.94


@dataclass(frozen=True, eq=False)
class LatencyGoal:
    """A model and its groups, whose latency is to go down to a share of what it is."""

    model: Model
    found: ChannelMap
    importances: Importances
    stopwatch: Stopwatch
    multiple: int
    #: What becomes of a model before it is timed: what is deployed may not be the float graph.
    prepared: Callable[[Model], Model]

    def reach(self, ratio: float, progress: Progress) -> Counts:
        """Return counts with which the measured latency is at most this share of the whole model's.

        Raises RefusedError with what was reached where it stays above.
        """
        counts: Counts = {group.name: group.size for group in self.found.groups}
        stages = max(1, math.ceil(math.log(ratio) / math.log(_STAGE) - 0.1))
        for _ in range(1, stages):
            cost = self._cost(counts, progress)
            goal = cost(counts) * ratio ** (1 / stages)
            counts = self._allocate(cost, goal, counts)
        return self._corrected(counts, self._cost(counts, progress), ratio)

    def _corrected(self, start: Counts, cost: Cost, ratio: float) -> Counts:
        """Correct the goal of the allocation by the ratio that was measured, until that holds."""
        aim = ratio * _AIM
        goal = last = cost(start) * aim / self._measured(start)
        tried: list[tuple[float, Counts]] = []
        for _ in range(_ATTEMPTS):
            try:
                counts = self._allocate(cost, goal, start)
            except RefusedError:
                if not tried:
                    raise
                goal = (goal + last) / 2  # what was corrected too far
                continue
            last = goal
            measured = self._measured(counts)
            if measured <= ratio:
                measured = self._measured(counts, _CONFIRMING_ROUNDS)
            tried.append((measured, counts))
            if ratio * _FARTHEST <= measured <= ratio * _NEAREST:
                return counts
            goal *= aim / measured
        enough = [one for one in tried if one[0] <= ratio]
        if not enough:
            least = min(measured for measured, _ in tried)
            raise RefusedError(
                f"pruning channels reached {least:.2f} of the latency, and the goal is {ratio:.2f}"
            )
        return max(enough, key=lambda one: one[0])[1]

    def _allocate(self, cost: Cost, goal: float, start: Counts) -> Counts:
        return allocate(self.importances, cost, goal, start=start, multiple=self.multiple)

    def _measured(self, counts: Counts, rounds: int = _CHECK_ROUNDS) -> float:
        """Measure what is left of the model's latency."""
        whole, left = self._whole_ms(counts, rounds)
        return left / whole

    def _whole_ms(self, counts: Counts, rounds: int = _CHECK_ROUNDS) -> tuple[float, float]:
        """Measure the whole model, and what is left of it."""
        pair = self._whole, self._model(self._pruned(counts))
        ((whole, left),) = self.stopwatch([pair], rounds=rounds)
        return whole, left

    def _cost(self, counts: Counts, progress: Progress) -> Cost:
        """Measure what each group saves at a few counts, all others as they are."""
        _, now = self._whole_ms(counts)
        groups = [name for name in counts if self._points(counts[name])]
        saved: dict[str, Mapping[int, float]] = {}
        series = (self._series(name, counts) for name in groups)
        with progress.stage("measuring channels", len(groups)) as advance:
            timed = self.stopwatch(series, rounds=_TABLE_ROUNDS)
            for name, times in zip(groups, timed, strict=True):
                points = self._points(counts[name])
                saved[name] = _table(counts[name], points, [times[0] - ms for ms in times[1:]])
                advance(1)
        return lambda asked: now - sum(table[asked[name]] for name, table in saved.items())

    def _series(self, name: str, counts: Counts) -> list[Model]:
        """Return the part of the model that a group goes through, whole and at each point."""
        nodes = touched_nodes(self.found, name)
        whole = [counts[name], *self._points(counts[name])]
        graphs = [self._pruned({**counts, name: count}) for count in whole]
        return [self._model(part(graph, nodes)) for graph in graphs]

    def _points(self, count: int) -> list[int]:
        """Return the counts to measure, in multiples, from the largest down."""
        least = floor(count, self.multiple)
        rounded = {max(least, round(count * p / self.multiple) * self.multiple) for p in _POINTS}
        return sorted((one for one in rounded if one < count), reverse=True)

    def _pruned(self, counts: Counts) -> onnx.ModelProto:
        keep = {
            name: most_important(self.importances[name], count) for name, count in counts.items()
        }
        return pruned(self.found, keep)

    @cached_property
    def _whole(self) -> Model:
        return self.prepared(self.model)

    def _model(self, graph: onnx.ModelProto) -> Model:
        return self.prepared(Model(self.model.name, graph, signature_of(graph)))


def _table(whole: int, points: Sequence[int], shares: Sequence[float]) -> Mapping[int, float]:
    """Return what is saved at every count from all channels down, between points on a line.

    Fewer channels never cost more: where a measurement says so, it is noise. Below the last point
    nothing more is saved, for nothing was measured there.
    """
    rising = np.maximum.accumulate([0.0, *shares])
    counts = np.arange(whole + 1)
    values = np.interp(counts, [*points[::-1], whole], rising[::-1])
    return dict(zip(counts.tolist(), values.tolist(), strict=True))
