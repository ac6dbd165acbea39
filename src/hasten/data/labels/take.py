"""Labels from what is in an .npz or in Python: dtype and shape say which kind they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.finite import nonfinite_row
from hasten.data.labels.labels import Labels, two_valued
from hasten.errors import DataError, one_line

__all__ = ["take_labels"]

_CLASS_KEYS = ("classes", "labels")


def take_labels(given: Any, count: int, where: str) -> Labels:
    """Return labels for so many samples.

    Integers [n] are classes, 0 and 1 in [n, classes] several classes a sample, other integers
    [n, ...] a class for each place, floats values, and strings texts. In Python a list of dicts
    with ``boxes``, [k, 4] as (left, top, right, bottom) in pixels, and ``classes``, [k], is taken
    too. Raises DataError for anything else, and for labels of another number.
    """
    if isinstance(given, Labels):
        _require_count(len(given), count, f"{len(given)} labels", where)
        return given
    if _holds(given, Mapping):
        return _boxes(given, count, where)
    if _holds(given, str):
        _require_count(len(given), count, f"{len(given)} texts", where)
        return Labels.of_texts(list(given))
    array = _array(given, where)
    got = f"labels of shape [{','.join(map(str, array.shape))}]"
    _require_count(len(array) if array.ndim else 0, count, got, where)
    for dtypes, taker in _TAKERS.items():
        if array.dtype.kind in dtypes:
            return taker(array, where)
    raise DataError(expected="labels of numbers or texts", got=f"dtype {array.dtype}", where=where)


def _holds(given: Any, kind: type) -> bool:
    """Whether this is a sequence of such objects."""
    if isinstance(given, str | bytes | np.ndarray) or not isinstance(given, Sequence):
        return False
    return len(given) > 0 and all(isinstance(one, kind) for one in given)


def _array(given: Any, where: str) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as problem:
        raise DataError(
            expected="labels of one shape", got=one_line(problem), where=where
        ) from problem


def _require_count(have: int, count: int, got: str, where: str) -> None:
    if have != count:
        raise DataError(expected=f"one label for each of {count} samples", got=got, where=where)


def _integers(array: NDArray[Any], where: str) -> Labels:
    flat = array.reshape(len(array), *[size for size in array.shape[1:] if size != 1])
    if flat.ndim == 1:
        return Labels.array("classes", _classes(flat, where))
    if flat.size == 0:
        raise DataError(
            expected="labels with values", got=f"shape {list(array.shape)}", where=where
        )
    plane = 2
    if flat.ndim == plane and flat.min() >= 0 and flat.max() <= 1:
        return Labels.array("several", flat.astype(np.uint8))
    return Labels.array("mask", two_valued(flat))


def _classes(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    if labels.size and labels.min() < 0:
        sample = int(np.argmax(labels < 0))
        raise DataError(
            expected="labels from 0",
            got=str(labels[sample]),
            where=f"{where}, sample {sample}",
        )
    return labels.astype(np.int64)


def _values(array: NDArray[Any], where: str) -> Labels:
    found = nonfinite_row(array)
    if found is not None:
        raise DataError(expected="finite labels", got=found[1], where=f"{where}, sample {found[0]}")
    return Labels.array("values", array)


def _texts(array: NDArray[Any], where: str) -> Labels:
    if array.ndim != 1:
        raise DataError(
            expected="one text a sample",
            got=f"texts of shape {list(array.shape)}",
            where=where,
        )
    texts = [
        one.decode(errors="backslashreplace") if isinstance(one, bytes) else str(one)
        for one in array.tolist()
    ]
    return Labels.of_texts(texts)


_TAKERS: dict[str, Callable[[NDArray[Any], str], Labels]] = {
    "biu": _integers,
    "f": _values,
    "SU": _texts,
}


def _boxes(given: Sequence[Mapping[str, Any]], count: int, where: str) -> Labels:
    _require_count(len(given), count, f"labels of {len(given)}", where)
    boxes, classes = [], []
    for sample, one in enumerate(given):
        place = f"{where}, sample {sample}"
        key = next((key for key in _CLASS_KEYS if key in one), "")
        if "boxes" not in one or not key:
            raise DataError(
                expected="a dict with 'boxes' and 'classes'",
                got=", ".join(f"'{key}'" for key in one) or "an empty one",
                where=place,
            )
        found, which = _array(one["boxes"], place), _array(one[key], place)
        found = found.reshape(-1, 4) if not found.size else found
        if found.ndim != 2 or found.shape[1] != 4 or which.shape != (len(found),):  # noqa: PLR2004
            raise DataError(
                expected="boxes [k, 4] and their classes [k]",
                got=f"{list(found.shape)} and {list(which.shape)}",
                where=place,
            )
        if which.dtype.kind not in "iub" and which.size:
            raise DataError(expected="integer classes", got=f"dtype {which.dtype}", where=place)
        boxes.append(_whole_boxes(found.astype(np.float64), place))
        classes.append(_classes(which, place))
    return Labels.of_boxes(boxes, classes)


def _whole_boxes(boxes: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Return the boxes; DataError for one that is none."""
    for box in boxes:
        if not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
            raise DataError(
                expected="boxes as left, top, right, bottom, each larger than nothing",
                got=str([round(float(side), 2) for side in box]),
                where=where,
            )
    return boxes
