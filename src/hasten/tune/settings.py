"""What the user chooses beside model, samples and budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from hasten.measure.rounds import Target
from hasten.tune.race import Pace

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """What the user chose beside model, samples and budget."""

    target: Target = "latency"
    runtimes: tuple[str, ...] = ()
    threads: int | None = None
    time_s: float = 300.0
    seed: int = 0
    pace: Pace = field(default_factory=Pace)
