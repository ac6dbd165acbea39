"""Every output against the reference's: its figure by what it means, and the floor beneath it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

import msgspec
import numpy as np

from hasten.data.answers import Answers, Output
from hasten.data.fidelity.boxes import compare_boxes, compare_boxes_and_scores
from hasten.data.fidelity.compared import Case, Comparer, Comparison
from hasten.data.fidelity.decisions import compare_probabilities, compare_scores
from hasten.data.fidelity.detections import compare_detections
from hasten.data.fidelity.embeddings import compare_embeddings
from hasten.data.fidelity.floor import CONSTANT, broken_floor, noise_limit
from hasten.data.fidelity.masks import compare_masks
from hasten.data.fidelity.sequences import compare_sequences
from hasten.data.fidelity.texts import compare_texts
from hasten.data.fidelity.values import compare_values, compare_waveforms
from hasten.data.fidelity.variation import SQNR_LIMIT_DB, Variation, variation
from hasten.data.meaning import Meaning, OutputKind
from hasten.errors import DataError

__all__ = ["OutputScore", "least_sqnr_db", "require_finite", "score_outputs"]

_COMPARERS: dict[OutputKind, Comparer] = {
    "scores": compare_scores,
    "probabilities": compare_probabilities,
    "boxes": compare_boxes,
    "boxes_and_scores": compare_boxes_and_scores,
    "detections": compare_detections,
    "mask": compare_masks,
    "sequence": compare_sequences,
    "embedding": compare_embeddings,
    "regression": compare_values,
    "waveform": compare_waveforms,
    "text": compare_texts,
}
#: Kinds whose values are no quantities that noise could be measured of.
_WITHOUT_NOISE = frozenset({"text", "detections"})
_BOX = 4
_NARROW = frozenset({"int8", "uint8", "int16", "uint16"})


class OutputScore(msgspec.Struct, frozen=True):
    """How one output compares with the reference's.

    ``kind`` is what it is taken for and ``why`` the reason. ``figure`` is what is kept of the
    reference's, from 0 to 1, by that kind; ``sqnr_db`` the signal to noise of the
    output around its mean over samples, None where values are no quantities. ``worst_sample`` is
    the validation sample that keeps least, ``worst_figure``. ``broken`` says why the output is
    ruined whatever its figure; empty where it is not. ``is_constant`` is the plainest ruin: it no
    longer varies over samples.
    """

    output: str
    kind: OutputKind
    figure: float
    sqnr_db: float | None = None
    worst_sample: int = 0
    worst_figure: float = 1.0
    broken: str = ""
    is_constant: bool = False
    why: str = ""

    @property
    def kept(self) -> float:
        """The figure, 0 where the output is ruined."""
        return 0.0 if self.broken else self.figure


def score_outputs(
    answers: Answers,
    reference: Answers,
    meanings: Mapping[str, Meaning],
    max_drop: float = 0.0,
    *,
    judged: Collection[str] = (),
) -> tuple[OutputScore, ...]:
    """Compare every output of the reference with the other model's of the same name.

    ``max_drop`` is how much of the figure may be lost: the floor gives way with it. Raises
    DataError for an output that is no finite number, is missing or of another shape; those that
    are ``judged`` by other means may be of another shape, and are left out then.
    """
    limit = noise_limit(max_drop)
    found = []
    for name in reference:
        require_finite(answers, reference, name)
        if name not in judged or _fits(answers, reference, name):
            found.append(_scored(meanings[name], answers, reference, limit))
    return tuple(found)


def least_sqnr_db(outputs: Iterable[OutputScore]) -> float:
    """Return the signal to noise ratio of the output with most noise, of those that have one."""
    heard = [one.sqnr_db for one in outputs if one.sqnr_db is not None]
    return min(heard, default=SQNR_LIMIT_DB)


def _scored(meaning: Meaning, answers: Answers, reference: Answers, limit: float) -> OutputScore:
    name = meaning.output
    output, told = _counterpart(answers, reference, name), reference[name]
    found = _variation(meaning, output, told)
    compared = _compared(meaning, answers, reference, found)
    broken = _broken(meaning, output, told, found, limit)
    worst = int(np.argmin(compared.samples)) if compared.samples.size else 0
    return OutputScore(
        name,
        meaning.kind,
        compared.figure,
        None if found is None else found.sqnr_db,
        worst,
        float(compared.samples[worst]) if compared.samples.size else 1.0,
        broken,
        broken.endswith(CONSTANT),
        meaning.why,
    )


def _compared(
    meaning: Meaning, answers: Answers, reference: Answers, found: Variation | None
) -> Comparison:
    name, scored_by = meaning.output, meaning.scored_by
    case = Case(
        meaning,
        answers[name],
        reference[name],
        found,
        reference.get(scored_by),
        answers.get(scored_by),
    )
    return _COMPARERS[meaning.kind](case)


def _counterpart(answers: Answers, reference: Answers, name: str) -> Output:
    """Return the output to hold against this one of the reference; samples need one shape."""
    if name not in answers:
        got = ", ".join(f"'{each}'" for each in answers) or "none"
        raise DataError(
            expected=f"an output '{name}' as in the reference", got=got, where="judging outputs"
        )
    output, told = answers[name], reference[name]
    if not _fits(answers, reference, name):
        raise DataError(
            expected=f"{len(told)} answers of shape {_dims(told)} as in the reference",
            got=f"{len(output)} of {_dims(output)}",
            where=f"output '{name}'",
        )
    return output


def _fits(answers: Answers, reference: Answers, name: str) -> bool:
    """Whether there is such an output for as many samples, of the same shape where it has one."""
    if name not in answers or len(answers[name]) != len(reference[name]):
        return False
    shapes = [
        None if one.values is None else one.values.shape[1:]
        for one in (answers[name], reference[name])
    ]
    return None in shapes or shapes[0] == shapes[1]


def _dims(output: Output) -> str:
    return "varying size" if output.values is None else str(list(output.values.shape[1:]))


def _variation(meaning: Meaning, output: Output, told: Output) -> Variation | None:
    if meaning.kind in _WITHOUT_NOISE or not _same_shapes(output, told):
        return None
    if told.dtype.kind in "biu" and told.dtype.name not in _NARROW:
        return None
    axis = meaning.box_axis if meaning.kind == "boxes_and_scores" else meaning.class_axis
    if axis is None and told.values is not None and told.values.ndim > 1:
        axis = -1 if meaning.kind == "regression" else None
    return variation(output, told, axis)


def _broken(
    meaning: Meaning, output: Output, told: Output, found: Variation | None, limit: float
) -> str:
    if found is None:
        return _constant(output, told)
    if meaning.kind == "boxes":
        return broken_floor(found, math.inf, by_channel=False)
    if meaning.kind == "boxes_and_scores":
        boxes, scores = found.among(slice(None, _BOX)), found.among(slice(_BOX, None))
        for part, of in (("boxes", boxes), ("scores", scores)):
            broken = broken_floor(of, math.inf, by_channel=part == "scores")
            if broken:
                return f"of its {part}, {broken}"
        return ""
    return broken_floor(found, limit)


def _constant(output: Output, told: Output) -> str:
    """Say that an output is the same for every sample where the reference's is not."""
    if len(told) < 2 or _all_same(told) or not _all_same(output):  # noqa: PLR2004 - of one, nothing varies
        return ""
    return CONSTANT


def _all_same(output: Output) -> bool:
    first = np.asarray(output.parts[0])
    return all(np.array_equal(first, part) for part in output.parts)


def _same_shapes(output: Output, told: Output) -> bool:
    return all(
        have.shape == want.shape for have, want in zip(output.parts, told.parts, strict=True)
    )


def require_finite(answers: Answers, reference: Answers, name: str) -> None:
    """Raise DataError for NaN or infinity in an output, unless the reference answers the same."""
    if name not in answers or answers[name].dtype.kind not in "fc":
        return
    told = reference[name]
    for rows, have in answers[name].pieces():
        odd = ~np.isfinite(have)
        if not odd.any():
            continue
        parts = [np.asarray(part) for part in told.parts[rows]]
        alike = all(part.shape == have.shape[1:] for part in parts) and len(parts) == len(have)
        if alike and np.array_equal(have[odd], np.stack(parts)[odd]):
            continue
        at = int(np.argmax(odd.reshape(len(have), -1).any(axis=1)))
        what = "NaN" if np.isnan(have[at]).any() else "infinity"
        raise DataError(
            expected="finite outputs",
            got=f"output '{name}' sample {rows.start + at} holds {what}",
            where="judging outputs",
        )
