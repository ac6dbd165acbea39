"""Scores of a coarse mask, enlarged to the size of its labels, as segmentation nets are judged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["enlarged"]


def enlarged(planes: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Enlarge [k, height, width] bilinearly, pixel centres aligned, edges repeated.

    That is ``torch.nn.functional.interpolate`` with ``align_corners=False``.

    >>> enlarged(np.array([[[0.0, 4.0]]]), 2)[0, 0].tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    values = planes.astype(np.float32)
    for axis in (-2, -1):
        size = values.shape[axis]
        at = (np.arange(size * factor) + 0.5) / factor - 0.5
        low = np.clip(np.floor(at).astype(int), 0, size - 1)
        high = np.minimum(low + 1, size - 1)
        part = np.clip(at - low, 0, 1).astype(np.float32)
        part = part[:, np.newaxis] if axis == -2 else part  # noqa: PLR2004 - height, then width
        below, above = np.take(values, low, axis), np.take(values, high, axis)
        values = below * (1 - part) + above * part
    return values
