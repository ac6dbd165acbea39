"""What shows in the values of an output: sums, lengths, bounds, and numbers that could be boxes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Output
from hasten.data.meaning.kind import BoxFormat
from hasten.data.meaning.origin import Origin

__all__ = ["Look", "box_format", "look_at"]

#: So many samples are looked at.
_SAMPLES = 16
_CLOSE = 1e-2
_ROUNDING = 1e-3
#: Share of boxes that have to be ones.
_MOST = 0.98
_BOX = 4
_WORDS = re.compile(r"[A-Za-z]+")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """An output as it shows in a few samples.

    ``values`` is [samples, ...] without axes of one, and ``axes`` are those that are left, counted
    from the end of a sample, so that ``values.shape[1 + i]`` is the sample's axis ``axes[i]``.
    """

    name: str
    values: Floats
    axes: tuple[int, ...]
    origin: Origin
    steps_first: bool = False

    @property
    def item(self) -> tuple[int, ...]:
        """Shape of a sample without axes of one."""
        return self.values.shape[1:]

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of its name, in lower case and in the singular."""
        parts = re.sub(r"([a-z])([A-Z])", r"\1 \2", self.name)
        return frozenset(word.lower().removesuffix("s") for word in _WORDS.findall(parts))

    @cached_property
    def exclusive_axis(self) -> int | None:
        """The axis of a softmax or its logarithm: values along it sum to 1, or their exponents."""
        for at in reversed(range(len(self.item))):
            if self.item[at] < 2:  # noqa: PLR2004 - one class is none
                continue
            finite = np.nan_to_num(self.values, neginf=-1e30)
            with np.errstate(over="ignore"):
                parts = finite if finite.min() >= -_ROUNDING else np.exp(np.minimum(finite, 50.0))
            if finite.max() <= 1 + _ROUNDING and np.allclose(parts.sum(at + 1), 1, atol=_CLOSE):
                return at
        return None

    @property
    def within_one(self) -> bool:
        """Whether all values are from 0 to 1."""
        return bool(_within_one(self.values))

    @property
    def of_length_one(self) -> bool:
        """Whether the last axis holds directions: all of length one."""
        if not self.item or self.item[-1] < _BOX:
            return False
        return bool(np.allclose(np.linalg.norm(self.values, axis=-1), 1, atol=_CLOSE))

    @property
    def decides(self) -> bool:
        """Whether the largest value is not always the same one, as far as samples tell."""
        if len(self.values) < 8 or not self.item:  # noqa: PLR2004 - fewer tell nothing
            return True
        return len(np.unique(self.values.reshape(len(self.values), -1).argmax(axis=1))) > 1


def look_at(output: Output, origin: Origin) -> Look | None:
    """Look at the first samples; None where samples are of different shapes, or no numbers."""
    if output.values is None or output.dtype.kind not in "biuf" or not output.values.size:
        return None
    few = np.asarray(output.values[:_SAMPLES], np.float64)
    rank = few.ndim - 1
    kept = [at for at in range(rank) if few.shape[at + 1] != 1]
    shape = (len(few), *[few.shape[at + 1] for at in kept])
    axes = tuple(at - rank for at in kept)
    return Look(output.name, few.reshape(shape), axes, origin, (output.axis.axis or 0) > 0)


def box_format(boxes: Floats) -> BoxFormat | None:
    """Say how [..., 4] are boxes, as corners or as centre and size; None where they are neither."""
    flat = boxes.reshape(-1, _BOX)
    if not len(flat) or not np.isfinite(flat).all() or np.ptp(flat) == 0:
        return None
    corners = (flat[:, 2] >= flat[:, 0]) & (flat[:, 3] >= flat[:, 1])
    if corners.mean() >= _MOST and (flat[:, 2:] > flat[:, :2]).any():
        return "xyxy"
    return "cxcywh" if (flat[:, 2:] >= 0).mean() >= _MOST else None


def _within_one(values: NDArray[Any]) -> bool:
    return bool(values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING)
