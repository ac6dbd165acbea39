"""Labelled boxes of images, as those of the pictures that a model is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hasten.data.labels.labels import Labels
from hasten.data.labels.pictures import Pictures
from hasten.errors import DataError

__all__ = ["Boxes", "placed_boxes", "require_inside"]

#: A box may reach so far out of its image, in pixels, or as a share of its side.
_SLACK, _SLACK_SHARE = 2.0, 0.01


class Boxes(NamedTuple):
    """Boxes of one image in its own pixels, [k, 4], with class and whether it is a crowd, [k]."""

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    crowd: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[float], int, bool]]) -> Boxes:
        """Take (box, class, crowd) one after another."""
        return cls(
            np.array([row[0] for row in rows], np.float64).reshape(-1, 4),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.bool_),
        )


def require_inside(box: Sequence[float], size: tuple[int, int], where: str) -> None:
    """Raise DataError for a box (left, top, right, bottom) that is none, or not in its image."""
    height, width = size
    left, top, right, bottom = box
    said = f"a box from ({left:g}, {top:g}) to ({right:g}, {bottom:g})"
    if not np.isfinite(box).all() or right <= left or bottom <= top:
        raise DataError(expected="a box with a width and a height", got=said, where=where)
    slack = [max(_SLACK, _SLACK_SHARE * side) for side in (width, height)]
    if (
        left < -slack[0]
        or top < -slack[1]
        or right > width + slack[0]
        or bottom > height + slack[1]
    ):
        raise DataError(
            expected=f"boxes inside the image of {width}x{height} pixels (width x height)",
            got=said,
            where=where,
            hint="are they of another size of the image, or written in another way?",
        )


def placed_boxes(
    each: Sequence[Boxes],
    pictures: Pictures,
    names: tuple[str, ...] = (),
    ids: tuple[int, ...] = (),
) -> Labels:
    """Return the boxes as they lie in the pictures, less those that a crop cuts off.

    Of which a crop leaves too little to judge, those become crowds: neither found nor missed.
    """
    boxes, classes, crowds = [], [], []
    for at, one in enumerate(each):
        moved, seen, little = pictures.framing(at).boxes(one.boxes)
        boxes.append(moved[seen])
        classes.append(one.classes[seen])
        crowds.append((one.crowd | little)[seen])
    size = pictures.preprocessing.size
    return Labels.of_boxes(boxes, classes, crowds, names=names, ids=ids, size=size)
