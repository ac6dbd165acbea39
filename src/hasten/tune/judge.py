"""Judging accuracy: the outputs of a contestant on the validation samples, as it is deployed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hasten.data import Metric, Samples, Score
from hasten.errors import DataError, OptionError, RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.patience import CutShortError, patiently
from hasten.tune.budget import Budget, is_within
from hasten.tune.candidate import Contestant
from hasten.worker.process import Worker

__all__ = ["AGREE_SHARE", "Judge"]

#: A model without steps answers alike in batches, so these may be large.
_PLAIN_BATCH = 4
_OPEN_LIMIT_S = 240.0
_PREDICT_LIMIT_S = 3600.0
_NAMED_SAMPLES = 8
#: Two runtimes on the same file are said to agree when this share of predictions is the same.
AGREE_SHARE = 0.995
#: Beyond this many times the allowed drop, and this much above it, a graph is given up.
_HOPELESS = 4.0
_HOPELESS_MARGIN = 0.02


@dataclass(eq=False)
class Judge:
    """Evaluates the metric, in worker processes, and holds candidates to the budget."""

    metric: Metric
    budget: Budget
    validation: Samples
    folder: Path
    scratch: Path
    deadline: Deadline
    reference_outputs: dict[str, np.ndarray] = field(default_factory=dict)
    reference_score: Score | None = None
    _known: dict[tuple[object, ...], Contestant] = field(default_factory=dict)

    def judge_reference(self, reference: Contestant) -> None:
        """Evaluate the reference, which the others are held against.

        Raises RuntimeFailureError or DataError: without it there is nothing to judge by.
        """
        try:
            outputs = self._outputs(reference)
        except CutShortError:
            raise OptionError(
                expected="time to judge the reference",
                got="too little",
                where="--time",
                hint="give more, such as --time 10m",
            ) from None
        self.reference_outputs = outputs
        reference.score = self.metric.evaluate(outputs, self.validation.labels, outputs)
        self.reference_score = reference.score

    def judge(self, contestant: Contestant) -> bool:
        """Evaluate a contestant; drops it and returns False when it fails or loses too much."""
        if self._refuse_hopeless(contestant):
            return False
        known = self._known.get(_same_answers(contestant))
        if known is not None:
            contestant.score, contestant.predictions = known.score, known.predictions
        else:
            try:
                outputs = self._outputs(contestant)
            except CutShortError:
                contestant.drop("lost", "not judged: the time was up")
                return False
            except (RuntimeFailureError, DataError) as error:
                contestant.drop("failed", str(error))
                return False
            labels = self.validation.labels
            contestant.score = self.metric.evaluate(outputs, labels, self.reference_outputs)
            self._known[_same_answers(contestant)] = contestant
        return self._within_budget(contestant)

    def is_hopeless(self, contestant: Contestant) -> bool:
        """Whether it loses so much that neither rounding nor other ranges can make up for it."""
        lost = self.drop_of(contestant)
        allowed = self.budget.max_drop
        return lost is not None and lost > max(_HOPELESS * allowed, allowed + _HOPELESS_MARGIN)

    def _refuse_hopeless(self, contestant: Contestant) -> bool:
        """Drop it unjudged where the same graph has proven hopeless in another runtime."""
        for known in self._known.values():
            if known.candidate.steps == contestant.candidate.steps and self.is_hopeless(known):
                contestant.drop(
                    "over_budget",
                    f"not judged: the same graph loses {self.drop_of(known):.4f} of"
                    f" {self.metric.name} in {known.candidate.runtime}",
                )
                return True
        return False

    def _within_budget(self, contestant: Contestant) -> bool:
        lost = self.drop_of(contestant)
        if lost is None or is_within(lost, self.budget.max_drop):
            return True
        contestant.drop(
            "over_budget",
            f"loses {lost:.4f} of {self.metric.name}, {self.budget.max_drop:g} is allowed",
        )
        return False

    def drop_of(self, contestant: Contestant) -> float | None:
        """How much of the metric is lost against the reference; negative where it gained."""
        if contestant.score is None or self.reference_score is None:
            return None
        return self.reference_score.value - contestant.score.value

    def partings(self, one: Contestant, others: Sequence[Contestant]) -> list[str]:
        """Say which other runtimes predict something else from the very same file, and how often.

        Int8 arithmetic is rounded differently by different runtimes; above half a percent of the
        predictions it is worth knowing.
        """
        notes = []
        for other in others:
            same = _same_predictions(one, other)
            if same is None or same.mean() >= AGREE_SHARE:
                continue
            apart = np.flatnonzero(~same)
            named = ", ".join(str(sample) for sample in apart[:_NAMED_SAMPLES])
            notes.append(
                f"{one.candidate.runtime} and {other.candidate.runtime} part on {len(apart)} of"
                f" {len(same)} samples, from the same file: validation samples {named}"
                f"{', ...' if len(apart) > _NAMED_SAMPLES else ''}"
            )
        return notes

    def agreement(self, one: Contestant, other: Contestant) -> float | None:
        """Share of samples on which two runtimes predict the same class from the same file."""
        same = _same_predictions(one, other)
        return None if same is None else float(same.mean())

    def _outputs(self, contestant: Contestant) -> dict[str, np.ndarray]:
        candidate, lowered = contestant.candidate, contestant.lowered
        if lowered is None:
            raise RuntimeFailureError(contestant.reason)
        out = Path(tempfile.mkdtemp(dir=self.scratch, prefix="outputs-")) / "of"
        batch = candidate.execution.batch if candidate.steps else _PLAIN_BATCH
        with Worker(self.scratch) as worker:
            patiently(
                lambda limit_s: worker.open(
                    candidate.runtime, lowered, candidate.execution, self.folder, limit_s
                ),
                _OPEN_LIMIT_S,
                self.deadline,
            )
            problem = patiently(
                lambda limit_s: worker.predict(self.folder, out, batch, limit_s),
                _PREDICT_LIMIT_S,
                self.deadline,
            )
        if problem is not None:
            raise DataError(expected="finite outputs", got=problem, where=contestant.label)
        specs = lowered.signature.outputs
        outputs = {spec.name: np.load(out / f"{at}.npy") for at, spec in enumerate(specs)}
        first = next(iter(outputs.values()))
        if first.ndim >= 2:  # noqa: PLR2004 - a batch axis and a class axis
            contestant.predictions = out / "predictions.npy"
            np.save(contestant.predictions, first.argmax(axis=-1))
        return outputs


def _same_answers(contestant: Contestant) -> tuple[object, ...]:
    """What decides the answers; threads and instances do not."""
    candidate = contestant.candidate
    execution = candidate.execution
    where = (execution.device, execution.delegate)
    return (candidate.steps, candidate.runtime, execution.hint, execution.batch, where)


def _same_predictions(one: Contestant, other: Contestant) -> np.ndarray | None:
    """Which samples two runtimes agree on, from one file; None where there is no such pair."""
    if one.predictions is None or other.predictions is None:
        return None
    if (
        one.candidate.runtime == other.candidate.runtime
        or one.candidate.steps != other.candidate.steps
    ):
        return None
    ours, theirs = np.load(one.predictions), np.load(other.predictions)
    return (ours == theirs).reshape(-1) if ours.shape == theirs.shape else None
