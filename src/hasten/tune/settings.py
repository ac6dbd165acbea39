"""What the user chooses beside model, samples and budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hasten.data.meaning import OutputKind
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
    #: Race only on these; by default on the processor, and on other devices that are hardware.
    devices: tuple[str, ...] = ()
    #: Libraries to race beside what a runtime brings, as ``lib.so:key=value,key=value``.
    delegates: tuple[str, ...] = ()
    fail_on_fallback: bool = False
    #: What outputs are, by name, where that is not to be found: see ``hasten.data.meaning``.
    outputs: Mapping[str, OutputKind] = field(default_factory=dict)
