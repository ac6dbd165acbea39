"""Whether an output can be of the kind that the user says it is."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from hasten.data.answers import Output
from hasten.data.meaning.box_layout import boxes_with_scores
from hasten.data.meaning.kind import Meaning, OutputKind
from hasten.data.meaning.look import Look, box_format
from hasten.errors import OptionError

__all__ = ["require_fit"]

_BOX = 4


def require_fit(output: Output, seen: Look | None, kind: OutputKind) -> Meaning:
    """Return the meaning of a kind that was given; OptionError where the output cannot be that."""
    if kind != "text" and output.dtype.kind not in "biuf":
        raise _misfit(output, kind, "numbers")
    return _MAKERS.get(kind, _plain)(output, seen, kind)


def _plain(output: Output, seen: Look | None, kind: OutputKind) -> Meaning:
    """Values or texts: any shape will do."""
    del seen
    return Meaning(output.name, kind)


def _classes(output: Output, seen: Look | None, kind: OutputKind) -> Meaning:
    """Scores of classes, or directions: an axis of two or more."""
    if output.values is None:
        return Meaning(output.name, kind, class_axis=-1)
    axis = _class_axis(seen)
    if axis is None and kind != "probabilities":
        raise _misfit(output, kind, "at least two values a sample")
    if kind == "sequence" and (seen is None or len(seen.item) < 2):  # noqa: PLR2004
        raise _misfit(output, kind, "[steps, classes] a sample")
    if kind == "embedding" and seen is not None:
        axis = seen.axes[-1]
    sums_to_one = seen is not None and seen.exclusive_axis is not None
    exclusive = axis is not None and (kind != "probabilities" or sums_to_one)
    return Meaning(output.name, kind, class_axis=axis, exclusive=exclusive)


def _class_axis(seen: Look | None) -> int | None:
    """Return the axis of classes: where values sum to 1, else the last, of pictures the first."""
    if seen is None or not seen.item:
        return None
    if seen.exclusive_axis is not None:
        return seen.axes[seen.exclusive_axis]
    picture = 3
    if len(seen.item) >= picture and seen.item[0] <= seen.item[-1]:
        return seen.axes[0]
    return seen.axes[-1]


def _mask(output: Output, seen: Look | None, kind: OutputKind) -> Meaning:
    del kind
    plane = 2
    if seen is None or len(seen.item) < plane:
        raise _misfit(output, "mask", "height and width a sample")
    if output.dtype.kind in "biu" or len(seen.item) == plane:
        return Meaning(output.name, "mask", exclusive=False)
    return Meaning(output.name, "mask", class_axis=_class_axis(seen))


def _detections(output: Output, seen: Look | None, kind: OutputKind) -> Meaning:
    del seen, kind
    parts = [part for part in output.parts if part.size]
    width = parts[0].shape[-1] if parts and parts[0].ndim else 0
    if width < _BOX:
        raise _misfit(output, "detections", "rows of four numbers or more")
    table = np.concatenate([part.reshape(-1, width) for part in parts]).astype(np.float64)
    for start in range(width - _BOX + 1):
        written = box_format(table[:, start : start + _BOX])
        if written is not None:
            return Meaning(output.name, "detections", box_start=start, box_format=written)
    raise _misfit(output, "detections", "four numbers in a row that are boxes")


def _boxes(output: Output, seen: Look | None, kind: OutputKind) -> Meaning:
    least = _BOX if kind == "boxes" else _BOX + 1
    if seen is None or not seen.item:
        raise _misfit(output, kind, f"rows of {least} numbers")
    found = boxes_with_scores(seen) if kind == "boxes_and_scores" else None
    if found is not None:
        return msgspec.structs.replace(found, why="given")
    for at in reversed(range(len(seen.item))):
        fits = seen.item[at] == _BOX if kind == "boxes" else seen.item[at] > _BOX
        table = np.moveaxis(seen.values, at + 1, -1)
        written = box_format(table[..., :_BOX]) if fits else None
        if written is not None:
            return Meaning(
                output.name,
                kind,
                box_axis=seen.axes[at],
                box_format=written,
                objectness=at == len(seen.item) - 1 and seen.item[at] > _BOX + 1,
            )
    raise _misfit(output, kind, f"an axis of {least} numbers of which four are boxes")


def _misfit(output: Output, kind: OutputKind, expected: str) -> OptionError:
    shape = "samples of varying shape"
    if output.values is not None:
        shape = f"{output.dtype.name}{list(output.values.shape[1:])} a sample"
    return OptionError(
        expected=f"{expected} for {kind}", got=shape, where=f"--output {output.name}={kind}"
    )


_MAKERS: dict[OutputKind, Callable[[Output, Look | None, OutputKind], Meaning]] = {
    "scores": _classes,
    "probabilities": _classes,
    "sequence": _classes,
    "embedding": _classes,
    "mask": _mask,
    "boxes": _boxes,
    "boxes_and_scores": _boxes,
    "detections": _detections,
}
