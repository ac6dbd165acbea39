"""Texts: character and word error rate, by jiwer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from hasten.data.answers import Answers, Output
from hasten.data.labels import Labels
from hasten.data.meaning import Meaning, OutputKind
from hasten.data.metrics.choice import choose_output, require_count
from hasten.data.metrics.decoding import Alphabet, decoded, spell, spelled_labels
from hasten.data.metrics.labelled import Chance, Reading, Rule, library
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

__all__ = ["CER", "WER"]

_KINDS: tuple[OutputKind, ...] = ("text", "sequence")
_ALSO: tuple[OutputKind, ...] = ("scores", "probabilities", "regression", "mask")
_FEW = 64


def _choose(
    answers: Answers, meanings: Mapping[str, Meaning], labels: Labels, metric: str
) -> Reading:
    reading = choose_output(
        answers,
        meanings,
        _KINDS,
        _fits,
        also=_ALSO,
        wanted="texts, token numbers, or class scores over steps",
        metric=metric,
    )
    output = answers[reading.outputs[0]]
    if output.dtype.kind in "SU":
        if labels.kind != "texts":
            raise DataError(
                expected="labels of texts for an output of texts",
                got=labels.kind,
                where=f"metric {metric}",
            )
        return reading
    if reading.axis is None:
        alphabet = Alphabet.of(labels, _most(output, labels))
    else:
        alphabet = Alphabet.of(labels, np.asarray(output.parts[0]).shape[reading.axis])
    if alphabet is None:
        raise _no_alphabet(output, reading, labels, metric)
    return _with_blank(answers, labels, replace(reading, layout=alphabet), metric)


def _most(output: Output, labels: Labels) -> int:
    """Return how many token numbers there are to spell."""
    if labels.alphabet:
        return len(labels.alphabet)
    said = max((int(part.max(initial=0)) for part in output.parts), default=0)
    told = int(labels.values.max(initial=0)) if labels.kind == "mask" else 0
    return 1 + max(said, told)


def _with_blank(answers: Answers, labels: Labels, reading: Reading, metric: str) -> Reading:
    """Say which class is the blank; one without a symbol is first or last, whichever errs less."""
    alphabet: Alphabet = reading.layout
    other = alphabet.with_blank_last()
    if other is not None and len(labels.alphabet) < len(alphabet.symbols):
        few = np.arange(min(_FEW, len(labels)))
        pair = answers.select(few), labels.select(few)
        readings = [reading, replace(reading, layout=other)]
        reading = max(readings, key=lambda one: _score(*pair, one, metric=metric).value)
        alphabet = reading.layout
    if reading.axis is None or alphabet.blank is None:
        return reading
    return replace(reading, note=f"class {alphabet.blank} is the blank of CTC")


def _fits(output: Output, meaning: Meaning) -> tuple[bool, int | None]:
    if not output.per_sample:
        return False, None
    if output.dtype.kind in "SUiu":
        return meaning.kind == "text", None
    if output.dtype.kind != "f" or not output.parts[0].ndim:
        return False, None
    sizes = [size for size in output.parts[0].shape if size != 1]
    if len(sizes) != 2:  # noqa: PLR2004 - [steps, classes]
        return False, None
    return True, -1 if meaning.class_axis is None else meaning.class_axis


def _no_alphabet(output: Output, reading: Reading, labels: Labels, metric: str) -> DataError:
    have = f"{len(labels.alphabet)} symbols" if labels.alphabet else "no alphabet"
    wanted = "the symbol of each token"
    if reading.axis is not None:
        count = np.asarray(output.parts[0]).shape[reading.axis]
        wanted = f"an alphabet of {count} symbols, or {count - 1} beside the blank"
    return DataError(
        expected=f"{wanted} of output '{output.name}'",
        got=have,
        where=f"metric {metric}",
        hint="give alphabet=FILE in --preprocess: a symbol a line, or a vocab.json",
    )


def _texts(answers: Answers, labels: Labels, reading: Reading) -> tuple[list[str], list[str]]:
    """Return (true, answered)."""
    output = answers[reading.outputs[0]]
    require_count(output, len(labels))
    truth = spelled_labels(labels)
    if output.dtype.kind in "SU":
        return truth, [" ".join(map(_text, np.ravel(one))) for one in output.parts]
    alphabet: Alphabet = reading.layout
    if reading.axis is None:
        tokens = [np.ravel(one).tolist() for one in output.parts]
        return truth, [spell(one, alphabet) for one in tokens]
    return truth, [decoded(one, reading.axis, alphabet) for one in output.parts]


def _text(one: object) -> str:
    return one.decode(errors="backslashreplace") if isinstance(one, bytes) else str(one)


def _score(answers: Answers, labels: Labels, reading: Reading, *, metric: str) -> Score:
    """Errors over the length of the true texts; the negative, for higher is better."""
    truth, said = _texts(answers, labels, reading)
    jiwer = library("jiwer", metric)
    if metric == "wer":
        truth, said = ([" ".join(one.split()) for one in texts] for texts in (truth, said))
    if not any(truth):
        raise DataError(
            expected="labels with texts", got="empty texts alone", where=f"metric {metric}"
        )
    rate = jiwer.wer(truth, said) if metric == "wer" else jiwer.cer(truth, said)
    right = sum(one == other for one, other in zip(truth, said, strict=True))
    return Score(-float(rate), {"texts_right": float(right), "samples": float(len(truth))})


def _chance(answers: Answers, labels: Labels, reading: Reading, *, metric: str) -> Chance:
    del metric
    truth, said = _texts(answers, labels, reading)
    beside = ""
    if len(said) > 1 and len(set(said)) == 1 and len(set(truth)) > 1:
        beside = f"the reference answers {said[0][:20]!r} for every sample"
    return Chance(-1.0, "answering nothing", 0.1, beside)


def _rule(metric: str, *kinds: str) -> Rule:
    score, chance = partial(_score, metric=metric), partial(_chance, metric=metric)
    return Rule(kinds, _choose, score, chance, "jiwer")  # type: ignore[arg-type]


#: Of class numbers without symbols there are no words.
CER, WER = _rule("cer", "texts", "mask"), _rule("wer", "texts")
