"""What a metric is: it judges the answers of a model, and higher is better."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import msgspec
import numpy as np

from hasten.data.fidelity import OutputScore
from hasten.data.labels import Labels
from hasten.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hasten.data.answers import Answers
    from hasten.data.meaning import Meaning

    #: Answers, or arrays by output name whose first axis is the sample.
    Outputs: TypeAlias = Answers | Mapping[str, NDArray[Any]]
    #: Labels of any kind; an array is taken for what it would be in an .npz.
    Truth: TypeAlias = Labels | NDArray[Any] | None

__all__ = ["Bindable", "Metric", "Score", "require_numbers"]


class Score(msgspec.Struct, frozen=True):
    """What a metric says: ``value``, where higher is better, and the figures beside it.

    ``outputs`` are the figures of each output where it was compared with the reference's.
    """

    value: float
    details: dict[str, float] = {}
    outputs: tuple[OutputScore, ...] = ()


class Metric(Protocol):
    """Judges the answers of a model for all samples.

    Outputs are in the model's own order. ``labels`` are what is true of each sample, or None,
    ``reference_outputs`` what the reference model answered for the same samples, or None. Raises
    DataError where it cannot judge, NaN included.
    """

    @property
    def name(self) -> str:
        """The name it is asked for by."""
        ...

    def reads(self, outputs: Sequence[str]) -> Collection[str]:
        """Return which of these outputs it looks at: the others are compared for it."""
        ...

    def evaluate(self, outputs: Outputs, labels: Truth, reference_outputs: Outputs | None) -> Score:
        """Judge these outputs."""
        ...


@runtime_checkable
class Bindable(Protocol):
    """A metric that is told once, by the reference's answers, how the outputs are to be read."""

    def bound(
        self, reference: Answers, meanings: Mapping[str, Meaning], labels: Labels | None
    ) -> Metric:
        """Return the metric that reads the outputs of every candidate as these are read."""
        ...

    def notes(self, reference: Answers, labels: Labels | None) -> list[str]:
        """Say, of a bound metric, what was assumed, and what the reference's figure makes doubt."""
        ...


def require_numbers(answers: Answers, names: Collection[str], where: str) -> None:
    """Raise DataError for the first NaN in these outputs."""
    for name in names:
        if answers[name].dtype.kind not in "fc":
            continue
        for rows, values in answers[name].pieces():
            odd = np.isnan(values)
            if odd.any():
                at = rows.start + int(np.argmax(odd.reshape(len(values), -1).any(axis=1)))
                got = f"output '{name}' sample {at} holds NaN"
                raise DataError(expected="finite outputs", got=got, where=where)
