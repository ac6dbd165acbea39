"""What an output is: the kinds that answers are compared by, and how a user names them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, get_args

import msgspec

from hasten.errors import OptionError

__all__ = ["KINDS", "OutputKind", "Meaning", "parse_output", "parse_outputs"]

OutputKind = Literal[
    "scores",
    "probabilities",
    "boxes",
    "boxes_and_scores",
    "detections",
    "mask",
    "sequence",
    "embedding",
    "regression",
    "waveform",
    "text",
]

#: Each kind with what is compared, for messages, help and the docs.
KINDS: dict[OutputKind, str] = {
    "scores": "class scores: the share of decisions that are the same",
    "probabilities": "scores from 0 to 1, of one class or of each: decisions at one half",
    "boxes": "corners or centres of boxes, [..., 4]: matched by their overlap (IoU)",
    "boxes_and_scores": "boxes and scores in one tensor, as YOLO has: matched by IoU and class",
    "detections": "boxes of varying number, as non-maximum suppression leaves: matched as sets",
    "mask": "a class or a probability for each place: overlap (IoU) of each class",
    "sequence": "class scores over time: edit distance of what is decoded",
    "embedding": "directions: cosine similarity, and who is nearest to whom",
    "regression": "values: what of their variation over samples is kept",
    "waveform": "values over time: what of each sample's signal is kept",
    "text": "texts, labels and other integers: the share that is the same",
}

#: Other words for the kinds, as they are in use.
_ALSO: dict[str, OutputKind] = {
    "logits": "scores",
    "classes": "scores",
    "probability": "probabilities",
    "box": "boxes",
    "boxes+scores": "boxes_and_scores",
    "boxes_scores": "boxes_and_scores",
    "boxes-and-scores": "boxes_and_scores",
    "yolo": "boxes_and_scores",
    "detection": "detections",
    "masks": "mask",
    "segmentation": "mask",
    "sequences": "sequence",
    "ctc": "sequence",
    "embeddings": "embedding",
    "features": "embedding",
    "value": "regression",
    "values": "regression",
    "audio": "waveform",
    "texts": "text",
    "labels": "text",
}

BoxFormat = Literal["xyxy", "cxcywh"]


class Meaning(msgspec.Struct, frozen=True):
    """What one output is, and why it was taken for that.

    Axes are of one sample, counted from its end. ``class_axis`` is where classes stand, None where
    there are none. ``exclusive`` says that one class is true of each place, not any number.
    ``box_axis`` is where the numbers of a box stand and ``box_start`` where they begin along it,
    ``box_format`` how they are written, and ``objectness`` whether the first score is of any object
    at all. ``scored_by`` names the output with the scores of these boxes.
    """

    output: str
    kind: OutputKind
    why: str = "given"
    class_axis: int | None = None
    exclusive: bool = True
    box_axis: int = -1
    box_start: int = 0
    box_format: BoxFormat = "xyxy"
    objectness: bool = False
    scored_by: str = ""

    def __str__(self) -> str:
        return f"{self.output}: {self.kind} ({self.why})"


def parse_output(text: str) -> tuple[str, OutputKind]:
    """Read ``name=kind``.

    >>> parse_output("output0=boxes+scores")
    ('output0', 'boxes_and_scores')

    Raises OptionError for another form or an unknown kind.
    """
    name, equals, kind = text.rpartition("=")
    if not equals or not name.strip():
        raise OptionError(
            expected="name=kind such as logits=scores", got=repr(text), where="--output"
        )
    return name.strip(), _kind(kind.strip(), name.strip())


def parse_outputs(texts: Iterable[str]) -> dict[str, OutputKind]:
    """Read each ``name=kind``; OptionError where one output is given two kinds."""
    found: dict[str, OutputKind] = {}
    for text in texts:
        name, kind = parse_output(text)
        if found.get(name, kind) != kind:
            raise OptionError(
                expected=f"one kind for output '{name}'",
                got=f"{found[name]} and {kind}",
                where="--output",
            )
        found[name] = kind
    return found


def _kind(text: str, name: str) -> OutputKind:
    plain = text.lower()
    for kind in get_args(OutputKind):
        if plain == kind:
            return kind  # type: ignore[no-any-return]
    if plain in _ALSO:
        return _ALSO[plain]
    near = get_close_matches(plain, [*KINDS, *_ALSO], 1)
    raise OptionError(
        expected=f"a kind of output: {', '.join(KINDS)}",
        got=repr(text),
        where=f"--output {name}",
        hint=f"did you mean {near[0]}?" if near else "",
    )
