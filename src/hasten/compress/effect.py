"""What a step does to a graph and needs for it: facts by which an order of steps is checked."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Effect", "Need"]

#: Samples a step works from: to find ranges with, or to train on, with labels or without.
Need = Literal["calibration", "training", "labels"]


class Effect(msgspec.Struct, frozen=True):
    """What a step takes and makes.

    ``takes`` is ``float`` where a graph with quantized weights cannot be taken any more, and
    ``makes`` is ``quantized`` where it is one afterwards. ``once`` is a step that finds nothing
    left to do the second time. ``interface`` is one that changes what the inputs are and nothing
    that is computed from them: it takes no time, and a teacher has to follow it. What a ``timed``
    one makes may depend on the runtime that its stopwatch runs.
    """

    takes: Literal["float", "any"] = "float"
    makes: Literal["same", "quantized"] = "same"
    needs: frozenset[Need] = frozenset()
    once: bool = False
    interface: bool = False
    timed: bool = False
