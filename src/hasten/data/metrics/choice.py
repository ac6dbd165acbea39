"""Which output a metric reads: the first of the kind it is about, of a shape that fits labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hasten.data.answers import Answers, Output
from hasten.data.meaning import Meaning, OutputKind
from hasten.data.metrics.labelled import Reading
from hasten.errors import DataError

__all__ = ["choose_output", "no_output", "require_count"]

#: Says where classes or columns stand when an output fits: (fits, axis).
Fit = Callable[[Output, Meaning], tuple[bool, int | None]]


def choose_output(
    answers: Answers,
    meanings: Mapping[str, Meaning],
    kinds: Sequence[OutputKind],
    fit: Fit,
    *,
    also: Sequence[OutputKind] = (),
    wanted: str,
    metric: str,
) -> Reading:
    """Return the first output that fits, of the first of these kinds that has one.

    A kind that was found may be wrong, so those of ``also`` are asked when no other fits; one that
    the user gave is not. DataError with all outputs and their kinds where none fits; ``wanted``
    says what was looked for.
    """
    for kind in (*kinds, *also):
        for name, output in answers.items():
            meaning = meanings[name]
            if meaning.kind != kind or (kind in also and meaning.why == "given"):
                continue
            fits, axis = fit(output, meanings[name])
            if fits:
                return Reading((name,), meanings[name], axis)
    raise no_output(answers, meanings, wanted, metric)


def no_output(
    answers: Answers, meanings: Mapping[str, Meaning], wanted: str, metric: str
) -> DataError:
    """Return the error that names the outputs and what they are."""
    return DataError(
        expected=f"an output with {wanted}",
        got="; ".join(_described(one, meanings[name]) for name, one in answers.items()) or "none",
        where=f"metric {metric}",
        hint="say what an output is with --output NAME=KIND, or use another --metric",
    )


def require_count(output: Output, labels: int) -> None:
    """Raise DataError unless there is an answer for each label."""
    if len(output) != labels or not output.per_sample:
        raise DataError(
            expected=f"one answer for each of {labels} labels",
            got=f"{len(output)}",
            where=f"output '{output.name}'",
        )


def _described(output: Output, meaning: Meaning) -> str:
    shape = "of varying size"
    if output.values is not None:
        shape = f"{output.dtype.name}{list(output.values.shape[1:])}"
    return f"'{output.name}' is {meaning.kind}, {shape}"
