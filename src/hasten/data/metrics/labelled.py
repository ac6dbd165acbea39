"""Metrics that hold answers against labels: one mechanism, and a rule for each of them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hasten.data.answers import Answers
from hasten.data.labels import LABEL_KINDS, LabelKind, Labels, take_labels
from hasten.data.meaning import Meaning, find_meanings
from hasten.data.metrics.metric import Score, require_numbers
from hasten.data.metrics.scale import counts_errors, is_share
from hasten.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from hasten.data.metrics.metric import Outputs, Truth

__all__ = ["Chance", "Labelled", "Reading", "Rule", "library", "require_kind"]

_DOUBTS = (
    "labels in another order than the model's classes? preprocessing that the model was not"
    " trained with (mean, std, size, colour order, layout of --preprocess)?"
)


@dataclass(frozen=True)
class Reading:
    """Which outputs a metric reads, and how: ``axis`` is where classes or columns stand.

    ``layout`` is what else a rule found of them, and ``note`` what of it people should know.
    """

    outputs: tuple[str, ...]
    meaning: Meaning
    axis: int | None = None
    layout: Any = None
    note: str = ""


@dataclass(frozen=True)
class Chance:
    """What needs no understanding reaches, in the unit of the score, and how.

    ``margin`` is how far above it a figure may lie and still be near; ``beside`` is another doubt,
    such as predictions that are all of one class.
    """

    level: float | None = None
    by: str = ""
    margin: float = 0.0
    beside: str = ""


@dataclass(frozen=True)
class Rule:
    """How one metric judges.

    ``labels`` are the kinds of labels that it takes. ``choose`` finds the output that fits them, or
    raises DataError; ``score`` judges what was chosen; ``chance`` says what guessing would reach.
    ``needs`` is the library that computes it.
    """

    labels: tuple[LabelKind, ...]
    choose: Callable[[Answers, Mapping[str, Meaning], Labels, str], Reading]
    score: Callable[[Answers, Labels, Reading], Score]
    chance: Callable[[Answers, Labels, Reading], Chance]
    needs: str = ""


@dataclass(frozen=True)
class Labelled:
    """A metric with labels; bound to a model it knows how to read its outputs."""

    name: str
    rule: Rule
    reading: Reading | None = None

    def reads(self, outputs: Sequence[str]) -> Collection[str]:
        """Return those that fit, as the reference told; before that, the first."""
        return outputs[:1] if self.reading is None else self.reading.outputs

    def bound(
        self, reference: Answers, meanings: Mapping[str, Meaning], labels: Labels | None
    ) -> Labelled:
        """Choose the outputs that it reads."""
        truth = self._require(labels, len(reference.first))
        return replace(self, reading=self.rule.choose(reference, meanings, truth, self.name))

    def evaluate(
        self,
        outputs: Outputs,
        labels: Truth,
        reference_outputs: Outputs | None = None,  # noqa: ARG002 - labels say all there is to know
    ) -> Score:
        """Judge the outputs against the labels."""
        answers = Answers.of(outputs)
        truth = self._require(labels, len(answers.first) if answers else 0)
        reading = self.reading
        if reading is None:
            reading = self.rule.choose(answers, find_meanings(answers), truth, self.name)
        for name in reading.outputs:
            if name not in answers:
                got = ", ".join(f"'{each}'" for each in answers) or "none"
                raise DataError(
                    expected=f"an output '{name}'", got=got, where=f"metric {self.name}"
                )
        require_numbers(answers, reading.outputs, f"metric {self.name}")
        score = self.rule.score(answers, truth, reading)
        if not math.isfinite(score.value):
            raise DataError(
                expected="finite outputs",
                got=f"a {self.name} of {score.value}",
                where=f"output '{reading.outputs[0]}'",
            )
        return score

    def notes(self, reference: Answers, labels: Labels | None) -> list[str]:
        """Say what was assumed, and where the reference is hardly better than guessing."""
        if self.reading is None or labels is None:
            return []
        said = [self._note()] if self.reading.note or len(reference) > 1 else []
        chance = self.rule.chance(reference, labels, self.reading)
        figure = self.evaluate(reference, labels).value
        doubts = [chance.beside] if chance.beside else []
        if chance.level is not None and figure <= chance.level + chance.margin:
            doubts.insert(
                0,
                f"{self.name} of the reference is {self._shown(figure)}, hardly better than"
                f" {chance.by} ({self._shown(chance.level)})",
            )
        return [*said, f"warning: {'; '.join(doubts)}: {_DOUBTS}"] if doubts else said

    def _note(self) -> str:
        reading = self.reading
        if reading is None:
            return ""
        names = " and ".join(f"'{name}'" for name in reading.outputs)
        more = f": {reading.note}" if reading.note else ""
        return f"{self.name} reads output {names} ({reading.meaning.kind}){more}"

    def _shown(self, value: float) -> str:
        value = -value if counts_errors(self.name) else value
        return f"{100 * value:.2f} %" if is_share(self.name) else f"{value:.4g}"

    def _require(self, labels: Truth, count: int) -> Labels:
        """Return the labels; DataError where there are none, or of another kind."""
        where = f"metric {self.name}"
        if labels is None:
            raise DataError(expected="labels", got="none", where=where)
        truth = labels if isinstance(labels, Labels) else take_labels(labels, len(labels), where)
        require_kind(self, truth.kind, where)
        del count
        return truth


def require_kind(metric: Labelled, kind: LabelKind, where: str, hint: str = "") -> None:
    """Raise DataError unless the metric judges labels of this kind."""
    if kind not in metric.rule.labels:
        wanted = " or ".join(f"{one} ({LABEL_KINDS[one]})" for one in metric.rule.labels)
        raise DataError(
            expected=f"labels of {wanted} for metric {metric.name}",
            got=f"{kind} ({LABEL_KINDS[kind]})",
            where=where,
            hint=hint,
        )


def library(module: str, metric: str) -> Any:
    """Import what computes a metric; MissingExtraError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError("metrics", needed_by=f"--metric {metric}") from None
