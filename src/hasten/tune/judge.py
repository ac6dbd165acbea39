"""Judging accuracy: what a contestant answers for the validation samples, held to the budget."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hasten.data import Fidelity, Metric, OutputScore, Samples, Score
from hasten.data.answers import Answers, SampleAxis
from hasten.data.fidelity import score_outputs
from hasten.data.meaning import Meaning, OutputKind, find_meanings
from hasten.errors import DataError, HastenError, OptionError
from hasten.measure.clock import Deadline
from hasten.measure.patience import CutShortError
from hasten.tune.budget import Budget, is_within
from hasten.tune.candidate import Contestant
from hasten.tune.prediction import Predictions

__all__ = ["AGREE_SHARE", "Judge"]

_NAMED_SAMPLES = 8
#: Two runtimes on the same file are said to agree when this share of predictions is the same.
AGREE_SHARE = 0.995
#: Beyond this many times the allowed drop, and this much above it, a graph is given up.
_HOPELESS = 4.0
_HOPELESS_MARGIN = 0.02


@dataclass(eq=False)
class Judge:
    """Evaluates the metric, in worker processes, and holds candidates to the budget.

    Whatever the metric says, no output may be ruined: those that it does not look at are compared
    with the reference's. ``kinds`` are what the user says outputs are. ``floor_drop`` is the drop
    that the floor beneath outputs is held to, by default that of the budget.
    """

    metric: Metric
    budget: Budget
    validation: Samples
    folder: Path
    scratch: Path
    deadline: Deadline
    kinds: Mapping[str, OutputKind] = field(default_factory=dict)
    floor_drop: float | None = None
    reference: Answers = field(default_factory=lambda: Answers({}))
    reference_score: Score | None = None
    meanings: dict[str, Meaning] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _axes: dict[str, SampleAxis] = field(default_factory=dict)
    _known: dict[tuple[object, ...], Contestant] = field(default_factory=dict)

    def judge_reference(self, reference: Contestant) -> None:
        """Evaluate the reference, which the others are held against.

        Raises RuntimeFailureError or DataError: without it there is nothing to judge by.
        """
        try:
            self.reference, self._axes = self._predictions.of_reference(reference)
        except CutShortError:
            raise OptionError(
                expected="time to judge the reference",
                got="too little",
                where="--time",
                hint="give more, such as --time 10m",
            ) from None
        self._require_numbers(reference)
        self.meanings = self._found_meanings(reference)
        reference.score = self.reference_score = self._evaluated(self.reference)

    def judge(self, contestant: Contestant) -> bool:
        """Evaluate a contestant; drops it and returns False when it fails or loses too much.

        Whatever goes wrong is the contestant's affair, with its reason, and never the race's.
        """
        known = self._known.get(_same_answers(contestant))
        if known is not None:
            contestant.score, contestant.predictions = known.score, known.predictions
            return self._within_budget(contestant)
        try:
            answers = self._predictions.of(contestant, self._axes)
            contestant.score = self._evaluated(answers)
        except CutShortError:
            contestant.drop("lost", "not judged: the time was up")
            return False
        except HastenError as error:
            contestant.drop("failed", str(error))
            return False
        contestant.predictions = self._kept_predictions(answers)
        self._known[_same_answers(contestant)] = contestant
        return self._within_budget(contestant)

    def among(self, few: Samples, folder: Path, rows: NDArray[np.int64], budget: Budget) -> Judge:
        """Return a judge of these samples alone, ``few``, staged in ``folder``: rows of its own."""
        floor = self._floor_drop
        judge = replace(self, budget=budget, validation=few, folder=folder, floor_drop=floor)
        judge.reference = self.reference.select(rows)
        judge.reference_score = judge._evaluated(judge.reference)
        judge._known = {}
        return judge

    def is_hopeless(self, contestant: Contestant) -> bool:
        """Whether it loses so much that neither rounding nor other ranges can make up for it."""
        lost = self.drop_of(contestant)
        allowed = self.budget.max_drop
        return lost is not None and lost > max(_HOPELESS * allowed, allowed + _HOPELESS_MARGIN)

    def drop_of(self, contestant: Contestant) -> float | None:
        """How much of the metric is lost against the reference; negative where it gained."""
        if contestant.score is None or self.reference_score is None:
            return None
        return self.reference_score.value - contestant.score.value

    def ruined(self, contestant: Contestant) -> list[OutputScore]:
        """Return the outputs that are ruined, whatever the metric says.

        Of outputs that the metric looks at, and of those of a model that was trained anew, it is
        asked only whether they still vary.
        """
        if contestant.score is None:
            return []
        trained = any("training" in step.needs for step in contestant.candidate.steps)
        seen = self.metric.reads(tuple(self.reference))
        return [
            one
            for one in contestant.score.outputs
            if one.broken and (one.is_constant or not (trained or one.output in seen))
        ]

    def _evaluated(self, answers: Answers) -> Score:
        """Return what the metric says, with the figures of all outputs beside it."""
        reference = self._comparable(answers)
        score = self._metric.evaluate(answers, self.validation.labels, reference)
        if score.outputs:
            return score
        compared = score_outputs(
            answers,
            reference,
            self.meanings,
            self._floor_drop,
            judged=self.metric.reads(tuple(self.reference)),
        )
        return Score(score.value, score.details, compared)

    def _comparable(self, answers: Answers) -> Answers:
        """Return the reference's outputs, without those that belong to no sample in these answers.

        One without an axis of samples is answered once for a whole batch: what a batch of several
        answers is another thing than what each of them alone does.
        """
        apart = [name for name, one in answers.items() if not one.per_sample]
        for name in apart:
            note = (
                f"output '{name}' has no axis of samples: where they are batched it is not judged"
            )
            if note not in self.notes:
                self.notes.append(note)
        kept = {name: one for name, one in self.reference.items() if name not in apart}
        return Answers(kept, self.reference.runs) if apart else self.reference

    @property
    def _metric(self) -> Metric:
        if isinstance(self.metric, Fidelity):
            return Fidelity(meanings=self.meanings, max_drop=self._floor_drop)
        return self.metric

    @property
    def _floor_drop(self) -> float:
        return self.budget.max_drop if self.floor_drop is None else self.floor_drop

    @property
    def _predictions(self) -> Predictions:
        return Predictions(self.validation, self.folder, self.scratch, self.deadline)

    def _found_meanings(self, reference: Contestant) -> dict[str, Meaning]:
        model = reference.model
        graph = model.graph if model is not None and model.format == "onnx" else None
        inputs = [spec.shape for spec in model.signature.inputs] if model is not None else []
        return find_meanings(self.reference, graph, self.kinds, inputs)

    def _require_numbers(self, reference: Contestant) -> None:
        """Raise DataError where the reference answers NaN: nothing can be held against that."""
        for name, output in self.reference.items():
            if output.dtype.kind not in "fc":
                continue
            for rows, values in output.pieces():
                odd = np.isnan(values).reshape(len(values), -1).any(axis=1)
                if odd.any():
                    at = rows.start + int(np.argmax(odd))
                    raise DataError(
                        expected="finite outputs",
                        got=f"output '{name}' sample {at} holds NaN",
                        where=reference.label,
                    )

    def _within_budget(self, contestant: Contestant) -> bool:
        for output in self.ruined(contestant):
            contestant.drop("over_budget", f"{_named(output)} is ruined: {output.broken}")
            return False
        lost = self.drop_of(contestant)
        if lost is None or is_within(lost, self.budget.max_drop):
            return True
        contestant.drop(
            "over_budget",
            f"loses {lost:.4f} of {self.metric.name}, {self.budget.max_drop:g} is allowed"
            f"{_worst(contestant.score) if isinstance(self.metric, Fidelity) else ''}",
        )
        return False

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

    def _kept_predictions(self, answers: Answers) -> Path | None:
        """Write the class of each sample, by the first output that has one."""
        for name, meaning in self.meanings.items():
            values = answers[name].values if name in answers else None
            if meaning.class_axis is None or not meaning.exclusive or values is None:
                continue
            classes = values.argmax(axis=meaning.class_axis)
            if classes.size != len(classes):
                continue
            path = Path(tempfile.mkdtemp(dir=self.scratch, prefix="classes-")) / "classes.npy"
            np.save(path, classes.reshape(-1))
            return path
        return None


def _same_answers(contestant: Contestant) -> tuple[object, ...]:
    """What decides the answers: graph, precision and runtime; threads and instances do not."""
    candidate, model = contestant.candidate, contestant.model
    execution = candidate.execution
    where = (execution.device, execution.delegate)
    graph = (candidate.steps, "" if model is None else model.digest)
    return (*graph, candidate.runtime, execution.hint, execution.batch, where)


def _named(output: OutputScore) -> str:
    return f"output '{output.output}' ({output.kind})"


def _worst(score: Score | None) -> str:
    """Say which output it is that loses so much."""
    if score is None or not score.outputs:
        return ""
    worst = min(score.outputs, key=lambda one: one.kept)
    if worst.broken:
        return f": {_named(worst)} is ruined: {worst.broken}"
    return f": {_named(worst)}, least of all in validation sample {worst.worst_sample}"


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
    return ours == theirs if ours.shape == theirs.shape else None
