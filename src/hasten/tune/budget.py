"""What the user allows and asks for."""

from __future__ import annotations

import math

import msgspec

from hasten.errors import OptionError

__all__ = ["Budget"]


class Budget(msgspec.Struct, frozen=True):
    """How much of the metric may be lost, and the goals to reach.

    ``max_drop`` is in the metric's own unit (0.005 of top-1 is half a point). A candidate that
    loses more is never chosen; goals that nothing reaches are named, and the best found returned.
    """

    max_drop: float = 0.01
    latency_ms: float | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        """Raise OptionError for a budget that cannot be meant."""
        if not (math.isfinite(self.max_drop) and self.max_drop >= 0):
            raise OptionError(
                expected="a number of 0 or more", got=str(self.max_drop), where="--max-drop"
            )
        goals = {
            "--latency-ms": self.latency_ms,
            "--size-mb": self.size_bytes,
            "--memory-mb": self.memory_bytes,
        }
        for flag, goal in goals.items():
            if goal is not None and not (math.isfinite(goal) and goal > 0):
                raise OptionError(expected="a number above 0", got=str(goal), where=flag)
