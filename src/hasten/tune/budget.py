"""What the user allows and asks for."""

from __future__ import annotations

import math

import msgspec

from hasten.errors import OptionError

__all__ = ["Budget", "is_within"]

#: Differences of two shares carry rounding: a drop of exactly what is allowed is allowed.
_ROUNDING = 1e-9


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

    def missed(self, size_bytes: int | None, memory_bytes: int) -> str:
        """Say which of the goals something of these sizes misses; empty where it meets them."""
        size, memory = self.size_bytes, self.memory_bytes
        if size is not None and size_bytes is not None and size_bytes > size:
            return f"{size_bytes / 1e6:.2f} MB, at most {size / 1e6:.2f} MB is asked for"
        if memory is not None and memory_bytes > memory:
            return (
                f"{memory_bytes / 1e6:.0f} MB of memory, at most {memory / 1e6:.0f} MB is asked for"
            )
        return ""


def is_within(drop: float, max_drop: float) -> bool:
    """Whether no more is lost than is allowed.

    >>> is_within(0.87 - 0.86, 0.01)
    True
    """
    return drop <= max_drop + _ROUNDING
