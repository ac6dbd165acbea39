"""How an output is compared with labels: the first output, and the loss, that fit their kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hasten.data.labels import LABEL_KINDS, Labels
from hasten.data.metrics.decoding import Alphabet
from hasten.errors import DataError, OptionError
from hasten.train import terms
from hasten.train.outputs import TrainedOutput, class_axis

__all__ = ["LabelTerm", "label_term", "plain_labels"]

_BOX = 4


@dataclass(frozen=True)
class LabelTerm:
    """A loss against labels: of which output, and how labels become what it takes."""

    title: str
    output: TrainedOutput
    compare: Callable[[torch.Tensor, Any], torch.Tensor]
    encode: Callable[[Labels], Any]


@dataclass(frozen=True)
class _Wanted:
    """What is asked of a loss beside its name."""

    name: str
    smoothing: float
    class_weights: tuple[float, ...]

    def weights(self, classes: int) -> torch.Tensor | None:
        """Return the weight of each class; OptionError for another number of them."""
        if not self.class_weights:
            return None
        if len(self.class_weights) != classes:
            raise OptionError(
                expected=f"a weight for each of {classes} classes",
                got=str(len(self.class_weights)),
                where="class_weights",
            )
        return torch.tensor(self.class_weights, dtype=torch.float32)


def label_term(
    outputs: Sequence[TrainedOutput],
    labels: Labels,
    name: str = "auto",
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
) -> LabelTerm:
    """Return the loss of the first output that fits the labels.

    Raises DataError where none does, and OptionError for class weights of another number.
    """
    wanted = _Wanted(name, smoothing, class_weights)
    counted = [one for one in outputs if one.weight]
    for one in counted:
        term = _KINDS[labels.kind](one, labels, wanted)
        if term is not None:
            return term
    shapes = ", ".join(
        f"{one.name} {[*map(str, one.shape[1:])]}".replace("'", "") for one in counted
    )
    loss = "a loss" if name == "auto" else f"loss {name}"
    raise DataError(
        expected=f"an output that {loss} can compare with labels of {LABEL_KINDS[labels.kind]}"
        f"{_of_shape(labels)}",
        got=f"outputs of {shapes}" if shapes else "none that counts",
        where="training loss",
        hint="give another --loss, or your own as package.module:callable",
    )


def plain_labels(labels: Labels) -> Any:
    """Return labels as a loss of the user's takes them: tensors, texts, or dicts of tensors."""
    if labels.kind == "texts":
        return labels.texts
    if labels.kind == "boxes":
        return [{key: torch.tensor(value) for key, value in one.items()} for one in labels.plain]
    return _tensor(labels)


def _tensor(labels: Labels) -> torch.Tensor:
    values = labels.values
    return torch.tensor(values, dtype=torch.float32 if values.dtype.kind == "f" else torch.int64)


def _of_shape(labels: Labels) -> str:
    known = labels.kind not in {"boxes", "texts"} and labels.values.ndim > 1
    return f" of shape {list(labels.values.shape[1:])}" if known else ""


def _size(output: TrainedOutput) -> int:
    return math.prod(output.shape[1:])


def _axis(output: TrainedOutput) -> int | None:
    """Return where classes stand, also where nothing but the shape says so."""
    if output.axis is not None:
        return output.axis
    at = class_axis(output.shape)
    return None if at is None else at - len(output.shape) * (at > 0)


def _made(
    title: str,
    output: TrainedOutput,
    compare: Callable[[torch.Tensor, Any], torch.Tensor],
    encode: Callable[[Labels], Any] = _tensor,
) -> LabelTerm:
    return LabelTerm(title, output, compare, encode)


def _classes(output: TrainedOutput, labels: Labels, wanted: _Wanted) -> LabelTerm | None:
    """One class a sample: a row of scores, one value that says yes or no, or a number."""
    axis, highest = _axis(output), int(labels.values.max(initial=0))
    if axis is not None and _size(output) == output.shape[axis] > highest:
        return _of_classes(output, axis, wanted)
    if _size(output) != 1:
        return None
    binary = highest <= 1 and (output.squash == "sigmoid" or output.meaning.kind == "probabilities")
    if wanted.name in {"bce", "focal"} or (wanted.name == "auto" and binary):
        return None if highest > 1 else _yes_or_no(output, wanted)
    return _of_values(output, wanted)


def _of_classes(output: TrainedOutput, axis: int, wanted: _Wanted) -> LabelTerm | None:
    weights = wanted.weights(output.shape[axis])
    if wanted.name in {"auto", "cross_entropy"}:
        smoothing = wanted.smoothing
        term = partial(terms.cross_entropy, axis=axis, smoothing=smoothing, weights=weights)
        return _made("cross entropy", output, term)
    if wanted.name == "focal":
        return _made("focal loss", output, partial(terms.focal, axis=axis, weights=weights))
    if wanted.name == "iou":
        return _made("overlap", output, partial(terms.soft_iou, axis=axis))
    return None


def _several(output: TrainedOutput, labels: Labels, wanted: _Wanted) -> LabelTerm | None:
    """Any number of classes a sample."""
    if _size(output) != labels.values[0].size or wanted.name not in {"auto", "bce", "focal"}:
        return None
    return _yes_or_no(output, wanted, wanted.weights(_size(output)))


def _yes_or_no(
    output: TrainedOutput, wanted: _Wanted, weights: torch.Tensor | None = None
) -> LabelTerm:
    """Classes each for itself: logits, unless what is trained are probabilities."""
    logits = output.squash != "" or output.meaning.kind not in {"probabilities", "mask"}
    if wanted.name == "focal":
        return _made("focal loss", output, _alike(partial(terms.focal_bernoulli, logits=logits)))
    term = partial(terms.bernoulli, logits=logits, smoothing=wanted.smoothing, weights=weights)
    return _made("binary cross entropy", output, _alike(term))


def _values(output: TrainedOutput, labels: Labels, wanted: _Wanted) -> LabelTerm | None:
    """Numbers: as many as the output has."""
    if _size(output) != math.prod(labels.values.shape[1:]):
        return None
    if wanted.name == "iou":
        is_boxes = labels.values.shape[-1:] == (_BOX,) and output.shape[-1] == _BOX
        term = partial(terms.generalized_iou, form=output.meaning.box_format)
        return _made("overlap", output, _alike(term)) if is_boxes else None
    shares = output.squash == "sigmoid" and 0 <= labels.values.min() <= labels.values.max() <= 1
    if wanted.name == "bce" or (wanted.name == "auto" and shares):
        return _yes_or_no(output, wanted) if shares else None
    return _of_values(output, wanted)


def _of_values(output: TrainedOutput, wanted: _Wanted) -> LabelTerm | None:
    if output.squash == "softmax" or wanted.name not in {"auto", "mse", "l1"}:
        return None
    term = terms.absolute if wanted.name == "l1" else terms.squared
    name = "absolute" if wanted.name == "l1" else "squared"
    if output.squash == "sigmoid":
        return _made(f"{name} difference", output, _alike(partial(_after_sigmoid, term=term)))
    return _made(f"{name} difference", output, _alike(term))


def _after_sigmoid(
    output: torch.Tensor, labels: torch.Tensor, *, term: Callable[..., torch.Tensor]
) -> torch.Tensor:
    return term(output.sigmoid(), labels)


def _mask(output: TrainedOutput, labels: Labels, wanted: _Wanted) -> LabelTerm | None:
    """A class for each place, or a row of them that scores over steps are to spell."""
    places = labels.values.shape[1:]
    axis = _axis(output)
    if axis is not None:
        beside = [
            size for at, size in enumerate(output.shape) if at not in {0, axis % len(output.shape)}
        ]
        if math.prod(beside) == math.prod(places) and wanted.name != "ctc":
            return _of_classes(output, axis, wanted)
        return _spelled(output, axis, labels, wanted) if len(places) == 1 else None
    if _size(output) != math.prod(places) or labels.values.max() > 1:
        return None
    if wanted.name == "iou":
        return _made("overlap", output, partial(terms.soft_iou, axis=None))
    return _yes_or_no(output, wanted) if wanted.name in {"auto", "bce", "focal"} else None


def _texts(output: TrainedOutput, labels: Labels, wanted: _Wanted) -> LabelTerm | None:
    axis = _axis(output)
    return None if axis is None else _spelled(output, axis, labels, wanted)


def _spelled(output: TrainedOutput, axis: int, labels: Labels, wanted: _Wanted) -> LabelTerm | None:
    """Class scores over steps, [n, steps, classes], against rows of classes or texts."""
    rank = 3
    if wanted.name not in {"auto", "ctc"} or len(output.shape) != rank:
        return None
    alphabet = Alphabet.of(labels, output.shape[axis])
    if alphabet is None or alphabet.blank is None:
        return None
    term = partial(_ctc, axis=axis, blank=alphabet.blank)
    return _made("CTC", output, term, partial(_rows_of_classes, alphabet=alphabet))


def _ctc(output: torch.Tensor, labels: Any, *, axis: int, blank: int) -> torch.Tensor:
    targets, lengths = labels
    return terms.ctc(output, targets, lengths, axis, blank)


def _rows_of_classes(labels: Labels, *, alphabet: Alphabet) -> tuple[torch.Tensor, torch.Tensor]:
    """Return classes [n, longest] with the length of each row."""
    if labels.kind == "texts":
        numbers = {symbol: at for at, symbol in enumerate(alphabet.symbols)}
        space = next((one for one in (" ", "|", "▁") if one in numbers), " ")
        rows = [
            [numbers[one] for one in text.replace(" ", space) if one in numbers]
            for text in labels.texts
        ]
    else:
        flat = labels.values.reshape(len(labels), -1)
        rows = [[int(one) for one in row if one >= 0] for row in flat]
    longest = max(map(len, rows), default=0)
    padded = np.zeros((len(rows), max(longest, 1)), np.int64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return torch.from_numpy(padded), torch.tensor([len(row) for row in rows], dtype=torch.int64)


def _alike(compare: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor, Any], torch.Tensor]:
    """Give labels the shape of the output, which has as many values."""

    def compared(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return compare(output, labels.reshape(output.shape).to(output.dtype))

    return compared


def _boxes(output: TrainedOutput, labels: Labels, wanted: _Wanted) -> LabelTerm | None:
    """Boxes of varying number have to be matched first, which each detector does its own way."""
    del output, labels, wanted
    return None


_KINDS: dict[str, Callable[[TrainedOutput, Labels, _Wanted], LabelTerm | None]] = {
    "classes": _classes,
    "several": _several,
    "values": _values,
    "mask": _mask,
    "boxes": _boxes,
    "texts": _texts,
}
