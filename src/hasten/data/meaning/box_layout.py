"""Boxes and scores in one tensor: along which axis, and how they are written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.meaning.kind import Meaning
from hasten.data.meaning.look import Look, box_format

__all__ = ["boxes_with_scores"]

_BOX = 4


def boxes_with_scores(seen: Look) -> Meaning | None:
    """The layouts of YOLO: [boxes, 4 + scores] or [4 + scores, boxes]."""
    if len(seen.item) != 2:  # noqa: PLR2004 - boxes and their columns
        return None
    for at in (1, 0):
        columns, boxes = seen.item[at], seen.item[1 - at]
        if columns <= _BOX or boxes < 2:  # noqa: PLR2004 - one box is a row of values
            continue
        table = np.moveaxis(seen.values, at + 1, -1)
        scores, corners = table[..., _BOX:], table[..., :_BOX]
        split = _BOX in np.cumsum(seen.origin.joined)
        if not _like_scores(scores) or not (split or corners.max() > 2):  # noqa: PLR2004 - pixels
            continue
        written = box_format(corners)
        if written is not None and (split or corners.min() >= -corners.max() / 2):
            return Meaning(
                seen.name,
                "boxes_and_scores",
                f"axis {seen.axes[at]} holds boxes and then scores from 0 to 1",
                box_axis=seen.axes[at],
                box_format=written,
                objectness=at == 1 and columns > _BOX + 1,
            )
    return None


def _like_scores(values: NDArray[Any]) -> bool:
    rounding = 1e-3
    return bool(values.min() >= -rounding and values.max() <= 1 + rounding and np.ptp(values) > 0)
