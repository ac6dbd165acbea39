"""Whether the answers that came under load were right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten.data import read_npz
from hasten.errors import DataError
from hasten.graph import Signature
from hasten.load_generator.payload import Payload, read_answer
from hasten.load_generator.record import Answer, Record

__all__ = ["AnswerCheck", "Expected", "check_answers", "read_expected"]

#: An answer may part from what is expected by this share of the output's largest value.
_ALLOWED = 1e-3

Expected = dict[str, NDArray[Any]]


class AnswerCheck(msgspec.Struct, frozen=True):
    """What the answers were compared with, and how they came out.

    Each answer counts as often as it came. ``top1`` is the share of rows whose label is the largest
    value of the first output, None without labels. ``wrong`` answers part from the expected outputs
    by more than ``allowed`` of the output's largest value; ``largest_difference`` is the largest
    share any answer parts by, None without expected outputs. ``unchecked`` were too many that
    differed from each other.
    """

    checked: int
    wrong: int
    unreadable: int
    unchecked: int
    top1: float | None = None
    largest_difference: float | None = None
    allowed: float = _ALLOWED
    first_problem: str = ""


def read_expected(path: Path, signature: Signature, payload: Payload) -> Expected:
    """Read expected outputs: an array for each output by name, a row for each row asked about.

    Raises DataError where they are not that.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    found = dict(read_npz(path, Signature((), signature.outputs)).arrays)
    for name, array in found.items():
        if name not in specs:
            raise DataError(
                expected=f"only the model's outputs {', '.join(map(repr, specs))}",
                got=f"an array '{name}'",
                where=str(path),
            )
        if len(array) != payload.total_rows:
            raise DataError(
                expected=f"{payload.total_rows} rows, one for each of {payload.source}",
                got=str(len(array)),
                where=f"{path}: {name}",
            )
        if not specs[name].fits(array.shape):
            raise DataError(
                expected=specs[name].layout,
                got=f"an array of shape {list(array.shape)}",
                where=f"{path}: {name}",
            )
    return found


def check_answers(
    record: Record, payload: Payload, signature: Signature, expected: Expected | None
) -> AnswerCheck:
    """Compare every answer of a run with labels and expected outputs, whichever there are."""
    scale = {name: _largest(array) for name, array in (expected or {}).items()}
    wrong = unreadable = checked = 0
    right_rows = rows = 0
    largest, problem = 0.0, ""
    for answer, outputs, complaint in _outputs(record.answers, signature, payload):
        if outputs is None:
            unreadable += answer.count
            problem = problem or complaint
            continue
        checked += answer.count
        asked = payload.rows[answer.request]
        if payload.labels is not None:
            first = outputs[signature.outputs[0].name]
            right = first.reshape(len(asked), -1).argmax(-1) == payload.labels[asked]
            right_rows += int(right.sum()) * answer.count
            rows += len(asked) * answer.count
        apart = 0.0
        for name, array in (expected or {}).items():
            off = _difference(array[asked], outputs[name], scale[name])
            if off > _ALLOWED and not problem:
                problem = f"output '{name}' parts by {off:.3g} of its largest value"
            apart = max(apart, off)
        wrong += answer.count * (apart > _ALLOWED)
        largest = max(largest, apart)
    return AnswerCheck(
        checked,
        wrong,
        unreadable,
        record.unchecked,
        right_rows / rows if rows else None,
        largest if expected else None,
        first_problem=problem,
    )


def _outputs(
    answers: list[Answer], signature: Signature, payload: Payload
) -> Iterator[tuple[Answer, dict[str, NDArray[Any]] | None, str]]:
    """Yield each answer with its outputs, or None and what is wrong with it."""
    for answer in answers:
        rows = len(payload.rows[answer.request])
        try:
            outputs = read_answer(answer.body, answer.json_bytes)
        except ValueError as problem:
            yield answer, None, f"an answer that cannot be read: {problem}"
            continue
        bad = [
            spec.name
            for spec in signature.outputs
            if spec.name not in outputs
            or outputs[spec.name].ndim == 0
            or len(outputs[spec.name]) != rows
        ]
        if bad:
            yield answer, None, f"an answer without {rows} rows of the output '{bad[0]}'"
        else:
            yield answer, outputs, ""


def _largest(array: NDArray[Any]) -> float:
    values = np.abs(array.astype(np.float64))
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def _difference(want: NDArray[Any], have: NDArray[Any], scale: float) -> float:
    """Return the largest difference as a share of the output's largest value."""
    if want.shape != have.shape:
        return float("inf")
    exact, near = want.astype(np.float64), have.astype(np.float64)
    if np.array_equal(exact, near, equal_nan=True):
        return 0.0
    off = float(np.max(np.abs(exact - near)))
    return float("inf") if np.isnan(off) else off / (scale or 1.0)
