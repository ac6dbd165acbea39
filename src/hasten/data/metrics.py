"""How good outputs are: against labels, against the reference model, or by the user's own rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
import numpy as np

from hasten.data.fidelity import agreement, mean_cosine, sqnr_db
from hasten.data.finite import first_nonfinite
from hasten.errors import DataError, OptionError, one_line
from hasten.graph.object_path import import_object, is_object_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hasten.data.samples import Samples

__all__ = ["METRICS", "CustomMetric", "Fidelity", "Metric", "Score", "Top1", "resolve_metric"]

Outputs: TypeAlias = "Mapping[str, NDArray[Any]]"


class Score(msgspec.Struct, frozen=True):
    """What a metric says: ``value``, where higher is better, and the figures beside it."""

    value: float
    details: dict[str, float] = {}


class Metric(Protocol):
    """Judges the outputs of a model over all samples.

    ``outputs`` are in the model's own order, each with the samples along its first axis.
    ``labels`` are int64 [n] or None, ``reference_outputs`` what the reference model made of the
    same samples, or None. Raises DataError where it cannot judge, NaN and infinity included.
    """

    @property
    def name(self) -> str:
        """The name it is asked for by."""
        ...

    def evaluate(
        self,
        outputs: Outputs,
        labels: NDArray[np.int64] | None,
        reference_outputs: Outputs | None,
    ) -> Score:
        """Judge these outputs."""
        ...


class Top1(msgspec.Struct, frozen=True):
    """Share of samples whose label is the largest value of the first output's last axis.

    >>> Top1().evaluate({"logits": np.array([[0.1, 0.9], [0.8, 0.2]])}, np.array([1, 1]), None)
    Score(value=0.5, details={'correct': 1.0, 'samples': 2.0})
    """

    name: str = "top1"

    def evaluate(
        self,
        outputs: Outputs,
        labels: NDArray[np.int64] | None,
        reference_outputs: Outputs | None = None,  # noqa: ARG002 - labels say all there is to know
    ) -> Score:
        """Judge the first output against the labels."""
        if labels is None:
            raise DataError(expected="labels", got="none", where="metric top1")
        _require_finite(outputs, "metric top1")
        name, output = next(iter(outputs.items()))
        logits = np.atleast_1d(output)
        predicted = logits.argmax(axis=-1).reshape(-1) if logits.size else np.empty(0, np.int64)
        if predicted.shape != labels.shape:
            raise DataError(
                expected=f"one row of class scores for each of {len(labels)} labels",
                got=f"shape {list(output.shape)}",
                where=f"output '{name}'",
            )
        _require_in_range(labels, logits.shape[-1], name)
        correct = float((predicted == labels).sum())
        return Score(correct / len(labels), {"correct": correct, "samples": float(len(labels))})


class Fidelity(msgspec.Struct, frozen=True):
    """Closeness to the reference model, for data without labels.

    ``value`` is ``agreement``, the share of rows with the same largest class in the first output,
    where that has at least two axes and two classes; else ``cosine``, the mean cosine similarity
    over samples and outputs. ``sqnr_db`` is the signal to quantization noise ratio over all
    samples, of the worst output, within +-200 dB so that it stays finite.
    """

    name: str = "fidelity"

    def evaluate(
        self,
        outputs: Outputs,
        labels: NDArray[np.int64] | None,  # noqa: ARG002 - judges without labels
        reference_outputs: Outputs | None,
    ) -> Score:
        """Judge all outputs against the reference's."""
        if reference_outputs is None:
            raise DataError(
                expected="outputs of the reference model", got="none", where="metric fidelity"
            )
        _require_finite(outputs, "metric fidelity")
        _require_finite(reference_outputs, "metric fidelity, reference model")
        pairs = [
            (_counterpart(outputs, name, reference), reference)
            for name, reference in reference_outputs.items()
        ]
        details = {
            "cosine": mean_cosine(pairs),
            "sqnr_db": min(sqnr_db(output, reference) for output, reference in pairs),
        }
        agreed = agreement(*pairs[0])
        if agreed is None:
            return Score(details["cosine"], details)
        return Score(agreed, {"agreement": agreed, **details})


class CustomMetric(msgspec.Struct, frozen=True):
    """The user's own: ``function(outputs, labels)`` returns a number, where higher is better."""

    name: str
    function: Callable[..., Any]

    def evaluate(
        self,
        outputs: Outputs,
        labels: NDArray[np.int64] | None,
        reference_outputs: Outputs | None = None,  # noqa: ARG002 - not part of the user's function
    ) -> Score:
        """Call the function; DataError when it raises or returns no finite number."""
        try:
            value = self.function(dict(outputs), labels)
        except Exception as problem:
            raise DataError(
                expected="a metric that returns a number",
                got=one_line(problem),
                where=self.name,
            ) from problem
        if not isinstance(value, Real) or not math.isfinite(value):
            got = str(float(value)) if isinstance(value, Real) else type(value).__name__
            raise DataError(expected="a finite number", got=got, where=self.name)
        return Score(float(value))


#: Every metric that has a name of its own.
METRICS: dict[str, Metric] = {metric.name: metric for metric in (Top1(), Fidelity())}


def resolve_metric(name: str | None, samples: Samples) -> Metric:
    """Return the metric of this name, or ``package.module:callable``.

    None means top1 where the samples have labels and fidelity where not. Raises DataError for
    top1 without labels, OptionError for a name that is none.
    """
    if name is None:
        name = "fidelity" if samples.labels is None else "top1"
    if name == "top1" and samples.labels is None:
        raise DataError(
            expected="labels for metric top1",
            got="none",
            where=samples.source,
            hint="use --metric fidelity",
        )
    if name in METRICS:
        return METRICS[name]
    if not is_object_path(name):
        raise OptionError(
            expected=f"{', '.join(METRICS)} or package.module:callable",
            got=repr(name),
            where="--metric",
        )
    function = import_object(name, where="--metric")
    if not callable(function):
        raise OptionError(
            expected="a callable", got=type(function).__name__, where=f"--metric {name}"
        )
    return CustomMetric(name, function)


def _require_finite(outputs: Outputs, where: str) -> None:
    found = first_nonfinite(outputs)
    if found is not None:
        raise DataError(expected="finite outputs", got=found, where=where)


def _require_in_range(labels: NDArray[np.int64], classes: int, output: str) -> None:
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        sample = int(np.argmax(wrong))
        raise DataError(
            expected=f"labels from 0 to {classes - 1} for output '{output}'",
            got=f"label {labels[sample]}",
            where=f"sample {sample}",
        )


def _counterpart(outputs: Outputs, name: str, reference: NDArray[Any]) -> NDArray[Any]:
    """Return the output to hold against this one of the reference; both need one shape."""
    if name not in outputs:
        got = ", ".join(f"'{each}'" for each in outputs) or "none"
        raise DataError(
            expected=f"an output '{name}' as in the reference", got=got, where="metric fidelity"
        )
    if outputs[name].shape != reference.shape:
        raise DataError(
            expected=f"shape {list(reference.shape)} as in the reference",
            got=str(list(outputs[name].shape)),
            where=f"output '{name}'",
        )
    return outputs[name]
