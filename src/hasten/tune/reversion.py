"""Reversion: which blocks go back to float, in which order, and which of them return to int8.

Nothing is measured here: ``Drop`` says what a mixture loses, and every mixture that was looked at
is returned, for all of them may be points of the frontier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hasten.measure.clock import Deadline
from hasten.tune.budget import is_within
from hasten.tune.mixtures import Kept
from hasten.tune.sensitivity import Sensitivity

__all__ = ["Drop", "Order", "by_accuracy", "by_ratio", "costless", "requantize", "revert"]

#: What a mixture loses of the metric.
Drop = Callable[[Kept], float]
#: Names of blocks, in the order in which they go back to float.
Order = Sequence[str]

#: As a share of the latency; keeps a ratio finite where intervals happen to be of no width.
_LEAST = 1e-4


def costless(found: Iterable[Sensitivity]) -> Kept:
    """Blocks that are measurably faster in float: int8 costs accuracy there and buys no time."""
    return frozenset(one.block.name for one in found if one.verdict == "faster")


def by_ratio(found: Iterable[Sensitivity]) -> Order:
    """Most accuracy regained for the time it costs first.

    Accuracy is the noise removed from the outputs: on a few hundred samples a metric such as top-1
    moves in steps, and most blocks alone do not move it at all. A time that is less than what was
    resolved counts as that: it may be so much.
    """

    def worth(one: Sensitivity) -> tuple[float, float]:
        cost = max(one.time_lost, one.resolution, _LEAST)
        return max(0.0, one.noise_removed) / cost, -cost

    return _ranked(found, worth)


def by_accuracy(found: Iterable[Sensitivity]) -> Order:
    """Most of the metric regained first, whatever it costs; of equals, most noise removed.

    This is how accuracy control in NNCF ranks what it reverts (Intel, Quantizing with Accuracy
    Control, OpenVINO documentation).
    """
    return _ranked(found, lambda one: (one.regained, one.noise_removed))


def _ranked(
    found: Iterable[Sensitivity], worth: Callable[[Sensitivity], tuple[float, float]]
) -> Order:
    return [one.block.name for one in sorted(found, key=worth, reverse=True)]


def revert(
    start: Kept, order: Order, drop: Drop, max_drop: float, deadline: Deadline
) -> list[Kept]:
    """Put one block after another back to float until ``max_drop`` holds; returns every state.

    The last one holds, unless the time was up or all blocks are in float.
    """
    states = [start]
    for name in order:
        if deadline.passed or is_within(drop(states[-1]), max_drop):
            break
        if name not in states[-1]:
            states.append(states[-1] | {name})
    return states


def requantize(
    kept: Kept,
    found: Iterable[Sensitivity],
    drop: Drop,
    max_drop: float,
    deadline: Deadline,
) -> list[Kept]:
    """Take float blocks back to int8 where ``max_drop`` holds without; returns every better state.

    The one that costs most time comes first. Blocks that are no slower in float stay there.
    """
    states = [kept]
    slow = [one for one in found if one.block.name in kept and one.verdict != "faster"]
    for one in sorted(slow, key=lambda one: one.time_lost, reverse=True):
        if deadline.passed:
            break
        without = states[-1] - {one.block.name}
        if is_within(drop(without), max_drop):
            states.append(without)
    return states
