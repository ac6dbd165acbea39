"""What a metric is: it judges the answers of a model, and higher is better."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from hasten.data.fidelity import OutputScore
from hasten.data.finite import first_nonfinite
from hasten.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hasten.data.answers import Answers

    #: Answers, or arrays by output name whose first axis is the sample.
    Outputs: TypeAlias = Answers | Mapping[str, NDArray[Any]]

__all__ = ["Metric", "Score", "require_finite"]


class Score(msgspec.Struct, frozen=True):
    """What a metric says: ``value``, where higher is better, and the figures beside it.

    ``outputs`` are the figures of each output where it was compared with the reference's.
    """

    value: float
    details: dict[str, float] = {}
    outputs: tuple[OutputScore, ...] = ()


class Metric(Protocol):
    """Judges the answers of a model for all samples.

    Outputs are in the model's own order. ``labels`` are int64 [n] or None, ``reference_outputs``
    what the reference model answered for the same samples, or None. Raises DataError where it
    cannot judge, NaN and infinity included.
    """

    @property
    def name(self) -> str:
        """The name it is asked for by."""
        ...

    def reads(self, outputs: Sequence[str]) -> Collection[str]:
        """Return which of these outputs it looks at: the others are compared for it."""
        ...

    def evaluate(
        self,
        outputs: Outputs,
        labels: NDArray[np.int64] | None,
        reference_outputs: Outputs | None,
    ) -> Score:
        """Judge these outputs."""
        ...


def require_finite(answers: Answers, where: str) -> None:
    """Raise DataError for the first NaN or infinity."""
    for name, output in answers.items():
        for rows, values in output.pieces():
            found = first_nonfinite({name: values}, rows.start)
            if found is not None:
                raise DataError(expected="finite outputs", got=found, where=where)
