"""The mean of each channel of a tensor, streamed: what bias correction needs to know."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ChannelMean"]


class ChannelMean:
    """Running mean of a tensor over all axes but that of the channels; streamed."""

    def __init__(self, axis: int = 1) -> None:
        self._axis = axis
        self._sum: npt.NDArray[np.float64] | float = 0.0
        self._count = 0

    def add(self, array: npt.NDArray[Any]) -> None:
        """Take in an array whose channels lie along the axis; of no values it takes none."""
        if not array.size:
            return
        others = tuple(axis for axis in range(array.ndim) if axis != self._axis % array.ndim)
        self._sum = self._sum + array.sum(axis=others, dtype=np.float64)
        self._count += array.size // array.shape[self._axis]

    @property
    def value(self) -> npt.NDArray[np.float64]:
        """The mean of each channel, of shape [channels]."""
        return np.asarray(self._sum / max(1, self._count))
