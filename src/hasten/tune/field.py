"""The field: every candidate of a race, made ready, refused or held back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from hasten.compress import StaticInt8, StepConfig
from hasten.compress.calibration import CALIBRATORS
from hasten.graph import Model
from hasten.measure.environment import physical_cores
from hasten.progress import Progress
from hasten.runtimes import Execution, Hint, get_runtime
from hasten.tune.build import Builder
from hasten.tune.calibrators import rank_calibrators, with_calibrator
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.settings import Settings
from hasten.tune.space import Space, default_runtimes, home_runtime, step_chains

__all__ = ["Field"]


@dataclass(eq=False)
class Field:
    """The candidates of a race, from the space and what suits this model."""

    model: Model
    builder: Builder
    settings: Settings
    progress: Progress
    _held_back: dict[Candidate, Contestant] = field(default_factory=dict)

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
        return get_runtime(runtime).probe().hints[0]

    def make(self) -> list[Contestant]:
        """Build every candidate but the reference; the first of a plan has the most threads."""
        foldable = bool(self.builder.context.preprocessing)
        chains = step_chains(foldable=foldable) if self.model.format == "onnx" else [()]
        ranked = rank_calibrators(self.builder, chains, physical_cores(), self.progress)
        candidates = list(self._candidates(chains))
        made: list[Contestant] = []
        with self.progress.stage("building", len(candidates)) as advance:
            for candidate in candidates:
                held_back = self._held_back_for(candidate, ranked)
                made.append(held_back or self.builder.contestant(candidate))
                advance(1)
        self._refuse_held_back(made, next(iter(ranked), ""))
        return [*self._missing_runtimes(), *_gathered(made)]

    def _candidates(self, chains: Sequence[tuple[StepConfig, ...]]) -> list[Candidate]:
        settings = self.settings
        probes = {name: get_runtime(name).probe() for name in default_runtimes(settings.runtimes)}
        space = Space(
            {name: probe for name, probe in probes.items() if probe.available},
            physical_cores(),
            settings.threads,
            settings.target,
            self.model.signature.batch,
        )
        return [
            candidate
            for chain in chains
            for name in space.probes
            for execution in space.executions(name)
            if (candidate := Candidate(chain, name, execution)) != self.reference
        ]

    def _missing_runtimes(self) -> list[Contestant]:
        """Runtimes that are not installed are listed, with the command that installs them."""
        missing = []
        for name in default_runtimes(self.settings.runtimes):
            probe = get_runtime(name).probe()
            if probe.available:
                continue
            contestant = Contestant(Candidate((), name, Execution()))
            contestant.drop("refused", probe.reason)
            missing.append(contestant)
        return missing

    def _held_back_for(self, candidate: Candidate, ranked: dict[str, float]) -> Contestant | None:
        """All calibrators but the best one wait: they differ in accuracy, never in speed."""
        step = _static_int8(candidate)
        best = next(iter(ranked), None)
        if step is None or best is None or step.calibrator == best:
            return None
        contestant = Contestant(candidate)
        contestant.drop(
            "lost",
            f"not raced: its ranges keep {ranked[step.calibrator]:.1f} dB of the calibration"
            f" outputs, those of {best} keep {ranked[best]:.1f} dB",
        )
        self._held_back[candidate] = contestant
        return contestant

    def _refuse_held_back(self, made: Sequence[Contestant], best: str) -> None:
        """Where a runtime refuses the best calibrator, it refuses the others for that reason."""
        by_candidate = {contestant.candidate: contestant for contestant in made}
        for candidate, contestant in self._held_back.items():
            steps = with_calibrator(candidate.steps, best)
            raced = by_candidate[msgspec.structs.replace(candidate, steps=steps)]
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


def _static_int8(candidate: Candidate) -> StaticInt8 | None:
    step = candidate.steps[-1] if candidate.steps else None
    return step if isinstance(step, StaticInt8) else None
