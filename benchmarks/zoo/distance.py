"""How far outputs are from a reference: over samples, in quantization steps, and at most.

Outputs are float [samples, ...]: each sample was run alone, and stacked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LIMIT_DB",
    "Outputs",
    "Steps",
    "centred_sqnr_db",
    "relative_error",
    "squared_error",
    "steps_apart",
    "worst_sqnr_db",
]

Outputs = Mapping[str, NDArray[Any]]

#: Equal outputs have no noise, and figures no infinity.
LIMIT_DB = 60.0
_LEVELS = 255


class Steps(NamedTuple):
    """The share of values more than half a quantization step apart, and the steps between them."""

    share: float
    root_mean_square: float
    most: float


def centred_sqnr_db(output: NDArray[Any], reference: NDArray[Any]) -> float:
    """SQNR of what varies over samples: each element's mean over samples is taken off both.

    An output that does not vary in the reference has nothing to lose: it is at the limit where it
    does not vary either, and at its negative where it does.

    >>> reference = np.array([[1.0, 5.0], [-1.0, 5.0]])
    >>> round(centred_sqnr_db(reference * [1.1, 1] + [3.0, 1.0], reference), 6)
    20.0
    """
    have, want = (_centred(each) for each in (output, reference))
    signal, noise = float(np.square(want).sum()), float(np.square(have - want).sum())
    if not math.isfinite(noise):
        return -LIMIT_DB
    # Beyond float32's own rounding of what was taken off, nothing varies.
    floor = reference.size * float(np.square(np.finfo(np.float32).eps * np.abs(reference).max()))
    if noise <= floor:
        return LIMIT_DB
    if signal <= floor:
        return -LIMIT_DB
    return max(-LIMIT_DB, min(LIMIT_DB, 10 * math.log10(signal / noise)))


def worst_sqnr_db(outputs: Outputs, reference: Outputs) -> float:
    """Return the centred SQNR of the worst output."""
    return min(centred_sqnr_db(outputs[name], want) for name, want in reference.items())


def squared_error(outputs: Outputs, reference: Outputs) -> float:
    """Squared error over what varies over samples, a mean over outputs.

    >>> reference = {"y": np.array([[1.0], [-1.0]])}
    >>> squared_error({"y": np.array([[0.0], [0.0]])}, reference)
    1.0
    """
    each = []
    for name, want in reference.items():
        signal = float(np.square(_centred(want)).sum())
        noise = float(np.square(np.asarray(outputs[name], np.float64) - want).sum())
        each.append(noise / signal if signal else math.inf if noise else 0.0)
    return float(np.mean(each))


def relative_error(outputs: Outputs, reference: Outputs) -> float:
    """Return the largest difference of any output, as a share of its largest absolute value."""
    each = []
    for name, want in reference.items():
        largest = float(np.abs(want).max())
        apart = float(np.abs(np.asarray(outputs[name], np.float64) - want).max())
        each.append(apart / largest if largest else math.inf if apart else 0.0)
    return max(each)


def steps_apart(outputs: Outputs, reference: Outputs) -> Steps:
    """Count in steps of int8, each 1/255 of the range of the reference's output; the worst output.

    >>> steps_apart({"y": np.array([0.0, 3.0, 255.0, 9.0])}, {"y": np.array([0, 1, 255, 9.0])})
    Steps(share=0.25, root_mean_square=1.0, most=2.0)
    """
    each = [Steps(0.0, 0.0, 0.0)]
    for name, want in reference.items():
        apart = np.abs(np.asarray(outputs[name], np.float64) - want)
        step = float(np.ptp(want)) / _LEVELS
        if step == 0 or not np.isfinite(apart).all():
            same = not apart.any()
            each.append(each[0] if same else Steps(1.0, math.inf, math.inf))
            continue
        share, square = float((apart > step / 2).mean()), float(np.square(apart / step).mean())
        each.append(Steps(share, math.sqrt(square), float(apart.max()) / step))
    return Steps(*map(max, zip(*each, strict=True)))


def _centred(values: NDArray[Any]) -> NDArray[np.float64]:
    wide = np.asarray(values, np.float64)
    centred: NDArray[np.float64] = wide - wide.mean(axis=0, keepdims=True)
    return centred
