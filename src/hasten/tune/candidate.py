"""A candidate: what is done to the graph, who runs it, and how. And all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hasten.bundle.manifest import CandidateRecord, Status
from hasten.compress import StepConfig, applied
from hasten.data import Score
from hasten.errors import OptionError
from hasten.graph import Model
from hasten.measure.rounds import Measurement, Target
from hasten.measure.statistics import Interval
from hasten.runtimes import Execution, Lowered, Placement

__all__ = ["Candidate", "Contestant"]


class Candidate(msgspec.Struct, frozen=True):
    """Steps, runtime and execution: equal when they mean the same."""

    steps: tuple[StepConfig, ...]
    runtime: str
    execution: Execution

    @property
    def label(self) -> str:
        """One line that tells it from all others."""
        steps = " + ".join(str(applied(step)) for step in self.steps) or "as is"
        return f"{steps}, {self.runtime} {self.execution}"

    @property
    def effort(self) -> tuple[int, bool, bool, int]:
        """How much it asks for: of two that are equally fast, the lesser one is chosen."""
        execution = self.execution
        lowered_precision = execution.hint in {"bf16", "f16"}
        unusual = execution.device != "cpu" or bool(execution.delegate)
        threads = execution.threads * execution.instances
        return (len(self.steps), unusual, lowered_precision, threads)


@dataclass(eq=False)
class Contestant:
    """A candidate on its way through the race, with everything learnt about it."""

    candidate: Candidate
    model: Model | None = None
    lowered: Lowered | None = None
    status: Status = "lost"
    reason: str = ""
    measurement: Measurement = field(default_factory=Measurement)
    speedup: Interval | None = None
    score: Score | None = None
    predictions: Path | None = None
    placement: Placement | None = None

    @property
    def label(self) -> str:
        """The candidate's label."""
        return self.candidate.label

    @property
    def racing(self) -> bool:
        """Whether it may still win."""
        return self.status == "lost" and not self.reason

    def drop(self, status: Status, reason: str) -> None:
        """Take it out of the race, for good."""
        self.status = status
        self.reason = reason

    @property
    def size_bytes(self) -> int | None:
        """Size of its file; of the exported graph where PyTorch runs a callable without a file."""
        if self.lowered is None or self.model is None:
            return None
        return self.lowered.size_bytes or len(self.model.payload)

    def require_whole(self) -> None:
        """Raise OptionError where it falls back: of those that may win, only the reference can."""
        placement = self.placement
        if placement is not None and placement.fallbacks:
            raise OptionError(
                expected=f"a plan that {placement.wanted} runs as a whole",
                got=f"{self.label}, of which {placement.fallback}",
                where="--fail-on-fallback",
            )

    def record(self, target: Target) -> CandidateRecord:
        """Return its line in bundle.json."""
        measured = self.measurement.measured_rounds > 0
        return CandidateRecord(
            label=self.label,
            steps=tuple(applied(step) for step in self.candidate.steps),
            runtime=self.candidate.runtime,
            execution=msgspec.to_builtins(self.candidate.execution),
            status=self.status,
            reason=self.reason,
            latency_ms=self.measurement.latency(target) if measured else None,
            speedup=self.speedup,
            metric=self.score.value if self.score else None,
            metric_details=dict(self.score.details) if self.score else {},
            outputs=self.score.outputs if self.score else (),
            size_bytes=self.size_bytes,
            peak_memory_bytes=self.measurement.peak_memory_bytes or None,
        )
