"""The field: every candidate of a race, made ready, refused or held back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from hasten.compress import DynamicInt8, StaticInt8, StepConfig
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.compress.quantization.rounding import Weights
from hasten.graph import Model
from hasten.measure.environment import physical_cores
from hasten.progress import Progress
from hasten.runtimes import Execution, Hint, Probe, get_runtime
from hasten.tune.build import Builder
from hasten.tune.calibrators import rank_calibrators, with_calibrator
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.settings import Settings
from hasten.tune.space import (
    Space,
    default_runtimes,
    home_runtime,
    step_chains,
    with_activations,
    with_weights,
)

__all__ = ["Field"]


def _probe(runtime: str) -> Probe:
    return get_runtime(runtime).probe()


@dataclass(eq=False)
class Field:
    """The candidates of a race, from the space and what suits this model.

    ``probe`` says what a runtime is like on this machine. ``steps`` are those of a recipe: then no
    others race, and none of them is held back.
    """

    model: Model
    builder: Builder
    settings: Settings
    progress: Progress
    probe: Callable[[str], Probe] = _probe
    steps: tuple[StepConfig, ...] | None = None
    _probes: dict[str, Probe] = field(default_factory=dict)
    _held_back: dict[Candidate, Contestant] = field(default_factory=dict)
    _stand_ins: dict[Candidate, Candidate] = field(default_factory=dict)

    @property
    def reference(self) -> Candidate:
        """The plan a user has today: the model as it is, in its own runtime, on all cores."""
        runtime = self._home()
        batch = self.model.signature.batch or 1
        threads = self.settings.threads or physical_cores()
        return Candidate((), runtime, Execution(threads, 1, batch, self._hint(runtime)))

    def _home(self) -> str:
        return "null" if self.settings.runtimes == ("null",) else home_runtime(self.model)

    def _hint(self, runtime: str) -> Hint:
        return self._probed(runtime).hints[0]

    def _probed(self, runtime: str) -> Probe:
        if runtime not in self._probes:
            self._probes[runtime] = self.probe(runtime)
        return self._probes[runtime]

    def make(self) -> list[Contestant]:
        """Build every candidate but the reference; the first of a plan has the most threads."""
        chains = self._chains()
        ranked = {}
        if self.steps is None:
            ranked = rank_calibrators(self.builder, chains, physical_cores(), self.progress)
        candidates = list(self._candidates(chains))
        made: list[Contestant] = []
        with self.progress.stage("building", len(candidates)) as advance:
            for candidate in candidates:
                held_back = self._held_back_for(candidate, ranked)
                made.append(held_back or self.builder.contestant(candidate))
                advance(1)
        self._refuse_held_back(made)
        return [*self._missing(), *_gathered(made)]

    def _chains(self) -> list[tuple[StepConfig, ...]]:
        if self.steps is not None:
            return [self.steps]
        if self.model.format != "onnx":
            return [()]
        return step_chains(
            foldable=bool(self.builder.context.preprocessing),
            # Calibrators are ranked in ONNX Runtime, also where it does not race.
            saturating=any(
                self._probed(name).int8_saturates
                for name in ("onnxruntime", *default_runtimes(self.settings.runtimes))
            ),
        )

    def _candidates(self, chains: Sequence[tuple[StepConfig, ...]]) -> list[Candidate]:
        space = self._space()
        return [
            candidate
            for chain in chains
            for name in space.probes
            for execution in space.executions(name)
            if (candidate := Candidate(chain, name, execution)) != self.reference
            and (
                self.steps is not None
                or space.probes[name].int8_saturates
                or _weights(candidate) != "w7"
            )
        ]

    def _space(self) -> Space:
        settings = self.settings
        probes = {name: self._probed(name) for name in default_runtimes(settings.runtimes)}
        return Space(
            {name: probe for name, probe in probes.items() if probe.available},
            physical_cores(),
            settings.threads,
            settings.target,
            self.model.signature.batch or (None if self._joins else 1),
            settings.devices,
            settings.delegates,
        )

    @property
    def _joins(self) -> bool:
        """Whether samples may be run as one batch: each would answer as it does alone."""
        return self.model.rows.rows == "independent"

    def _missing(self) -> list[Contestant]:
        """Runtimes and devices that are not there, with the reason or what installs them.

        And batches, for throughput, where samples must not be joined.
        """
        missing = []
        space = self._space()
        if self.settings.target == "throughput" and space.batch == 1 and not self._joins:
            contestant = Contestant(Candidate((), self.reference.runtime, Execution(batch=2)))
            contestant.drop("refused", f"samples cannot share a batch: {self.model.rows}")
            missing.append(contestant)
        for name in space.probes:
            for device, reason in space.unreached(name).items():
                contestant = Contestant(Candidate((), name, Execution(device=device)))
                contestant.drop("refused", reason)
                missing.append(contestant)
        for name in default_runtimes(self.settings.runtimes):
            probe = self._probed(name)
            if probe.available:
                continue
            contestant = Contestant(Candidate((), name, Execution()))
            contestant.drop("refused", probe.reason)
            missing.append(contestant)
        return missing

    def _held_back_for(self, candidate: Candidate, ranked: dict[str, float]) -> Contestant | None:
        """Return the candidate as not raced where another one races in its place."""
        if self.steps is not None:
            return None
        best = next(iter(ranked), None)
        step, probe = _static_int8(candidate), self._probed(candidate.runtime)
        steps, reason = candidate.steps, ""
        if step is not None and best is not None and step.calibrator != best:
            # Calibrators differ in accuracy, never in speed.
            steps = with_calibrator(steps, best)
            reason = (
                f"its ranges keep {ranked[step.calibrator]:.1f} dB of the calibration outputs,"
                f" those of {best} keep {ranked[best]:.1f} dB"
            )
        if _weights(candidate) == "w8" and probe.int8_saturates:
            steps = with_weights(steps, "w7")
            reason = (
                f"int8 products of {candidate.runtime} saturate on this processor unless weights"
                " keep to 7 bits (w7)"
            )
        if step is not None and step.activations == "s8" and probe.int8_signed:
            steps = with_activations(steps, "u8")
            reason = f"{candidate.runtime} shifts unsigned activations: u8 becomes the same program"
        if not reason:
            return None
        contestant = Contestant(candidate)
        contestant.drop("lost", f"not raced: {reason}")
        self._held_back[candidate] = contestant
        self._stand_ins[candidate] = msgspec.structs.replace(candidate, steps=steps)
        return contestant

    def _refuse_held_back(self, made: Sequence[Contestant]) -> None:
        """Where a runtime refuses what races, it refuses what that stands for, for that reason."""
        by_candidate = {contestant.candidate: contestant for contestant in made}
        for candidate, contestant in self._held_back.items():
            raced = by_candidate[self._stand_ins[candidate]]
            if raced.status == "refused":
                contestant.drop("refused", raced.reason)

    def alternates(self, dropped: Contestant) -> list[Contestant]:
        """The same plan with the other calibrators, for one that lost too much accuracy."""
        found = []
        for name in CALIBRATORS:
            steps = with_calibrator(dropped.candidate.steps, name)
            twin = msgspec.structs.replace(dropped.candidate, steps=steps)
            contestant = self._held_back.pop(twin, None)
            if contestant is not None:
                made = self.builder.contestant(twin)
                contestant.model, contestant.lowered = made.model, made.lowered
                contestant.status, contestant.reason = made.status, made.reason
                found.append(contestant)
        return [contestant for contestant in found if contestant.racing]


def _gathered(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Keep one of those refused for one reason in one runtime, and say how many it stands for."""
    kept: list[Contestant] = []
    alike: dict[tuple[str, str], list[Contestant]] = {}
    for contestant in contestants:
        if contestant.status != "refused":
            kept.append(contestant)
            continue
        key = (contestant.candidate.runtime, contestant.reason)
        alike.setdefault(key, []).append(contestant)
    for first, *others in alike.values():
        if others:
            first.reason += f" (and {len(others)} more candidates of {first.candidate.runtime})"
        kept.append(first)
    return kept


def _weights(candidate: Candidate) -> Weights | None:
    """How wide its int8 weights are; None where nothing multiplies int8."""
    step = candidate.steps[-1] if candidate.steps else None
    return step.weights if isinstance(step, StaticInt8 | DynamicInt8) else None


def _static_int8(candidate: Candidate) -> StaticInt8 | None:
    step = candidate.steps[-1] if candidate.steps else None
    return step if isinstance(step, StaticInt8) else None
