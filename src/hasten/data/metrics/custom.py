"""Metrics of the user's own: a function of the outputs and the labels."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import msgspec

from hasten.data.answers import Answers
from hasten.data.labels import Labels
from hasten.data.metrics.metric import Score
from hasten.errors import DataError, foreign

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hasten.data.metrics.metric import Outputs, Truth

__all__ = ["CustomMetric"]


class CustomMetric(msgspec.Struct, frozen=True):
    """The user's own: ``function(outputs, labels)`` returns a number, where higher is better.

    ``outputs`` are arrays by name as one run over all samples would give them: samples lie along
    the axis they have in the model, outputs without one are stacked along a new first axis, and
    those of varying size, such as detections, are joined along their first. ``labels`` are None, an
    array [n, ...], a list of texts, or a list of dicts with ``boxes`` and ``classes``. A function
    with a parameter ``runs`` is given the outputs run by run as well: a list of dicts of arrays,
    one for each sample, so that it can tell which detections are of which image.
    """

    name: str
    function: Callable[..., Any]

    def reads(self, outputs: Sequence[str]) -> Sequence[str]:
        """Return all of them: which ones the function looks at is not known."""
        return outputs

    def evaluate(
        self,
        outputs: Outputs,
        labels: Truth,
        reference_outputs: Outputs | None = None,  # noqa: ARG002 - not part of the user's function
    ) -> Score:
        """Call the function; DataError when it raises or returns no finite number."""
        answers = Answers.of(outputs)
        joined = {name: output.joined for name, output in answers.items()}
        more = {"runs": _runs(answers)} if _takes_runs(self.function) else {}
        plain = labels.plain if isinstance(labels, Labels) else labels
        with foreign(DataError, expected="a metric that returns a number", where=self.name):
            value = self.function(joined, plain, **more)
        if not isinstance(value, Real) or not math.isfinite(value):
            got = str(float(value)) if isinstance(value, Real) else type(value).__name__
            raise DataError(expected="a finite number", got=got, where=self.name)
        return Score(float(value))


def _takes_runs(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some callables of C have none
        return False
    return "runs" in parameters


def _runs(answers: Answers) -> list[dict[str, NDArray[Any]]]:
    """Return the outputs of each sample, where there is one a sample."""
    count = max(len(output) for output in answers.values())
    return [
        {name: output.parts[at] for name, output in answers.items() if len(output) == count}
        for at in range(count)
    ]
