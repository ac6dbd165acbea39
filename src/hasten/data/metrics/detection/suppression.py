"""Non-maximum suppression: of boxes of one class that overlap, the best is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["suppressed"]

#: Overlap from which the lesser of two boxes of a class is dropped.
_OVERLAP = 0.65
#: So many of the best are looked at, and so many are kept: COCO judges 100 a picture.
_LOOKED_AT, _KEPT = 2000, 100

Floats = NDArray[np.float64]


def suppressed(boxes: Floats, scores: Floats, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that stay, the best first; boxes are corners, [k, 4]."""
    order = np.argsort(-scores, kind="stable")[:_LOOKED_AT]
    # Boxes of different classes are moved apart, so that they never overlap.
    span = float(np.abs(boxes).max(initial=0.0)) * 2 + 1
    moved = boxes[order] + (classes[order] * span)[:, np.newaxis]
    areas = (moved[:, 2:] - moved[:, :2]).clip(0).prod(axis=1)
    waiting = np.ones(len(order), bool)
    kept: list[int] = []
    for at in range(len(order)):
        if not waiting[at]:
            continue
        kept.append(int(order[at]))
        if len(kept) == _KEPT:
            break
        low = np.maximum(moved[at, :2], moved[at + 1 :, :2])
        high = np.minimum(moved[at, 2:], moved[at + 1 :, 2:])
        shared = (high - low).clip(0).prod(axis=1)
        union = areas[at] + areas[at + 1 :] - shared
        waiting[at + 1 :] &= shared <= _OVERLAP * union
    return np.asarray(kept, np.int64)
