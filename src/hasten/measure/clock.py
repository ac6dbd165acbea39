"""Deadlines on a clock that tests can inject."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Deadline"]


@dataclass(frozen=True)
class Deadline:
    """A point in time that work must not run past; ``Deadline.after(None)`` never comes."""

    at_ns: int | None
    clock_ns: Callable[[], int] = field(default=time.monotonic_ns, repr=False)

    @classmethod
    def after(
        cls, seconds: float | None, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> Deadline:
        """Return the deadline this many seconds from now."""
        return cls(None if seconds is None else clock_ns() + int(seconds * 1e9), clock_ns)

    @property
    def left_s(self) -> float:
        """Seconds left; negative once it has passed, infinite where there is none."""
        return float("inf") if self.at_ns is None else (self.at_ns - self.clock_ns()) / 1e9

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.left_s <= 0

    def earlier_by(self, seconds: float) -> Deadline:
        """Return the deadline this long before this one: keeps time back for what follows."""
        if self.at_ns is None:
            return self
        return Deadline(self.at_ns - int(seconds * 1e9), self.clock_ns)

    def after_share(self, share: float) -> Deadline:
        """Return the deadline when this share of the time left will have passed."""
        return self.earlier_by(self.left_s * (1 - share))
