"""Weights that bring a layer nearest to what it is to give, from sums over patches it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["RIDGES", "Fitted", "Sums", "fitted"]

_Floats = npt.NDArray[np.float64]

#: Pulls towards the weights that were there, as shares of the mean variance of the inputs, the
#: strongest first: what the samples say nothing of stays as it is.
RIDGES = (3.0, 0.3, 0.03, 0.003)
#: A weaker pull is tried as long as patches that were not solved with are met better by so much.
_BETTER = 0.99
#: An error of this share of what is wanted is as good as none: sums of squares tell no smaller one.
_EXACT = 1e-9


class Fitted(NamedTuple):
    """Weights [groups, outputs, d] and biases [groups, outputs] of a layer."""

    weights: _Floats
    biases: _Floats


class Sums:
    """Second moments of a layer's inputs x [groups, d] and wanted outputs y [groups, outputs]."""

    def __init__(self) -> None:
        self.count = 0
        self._x: Any = 0.0
        self._y: Any = 0.0
        self._xx: Any = 0.0
        self._yx: Any = 0.0
        self._yy: Any = 0.0

    def add(self, taken: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> None:
        """Take in x [groups, patches, d] and y [patches, groups * outputs]."""
        x = taken.astype(np.float64)
        y = wanted.astype(np.float64).reshape(len(wanted), len(x), -1).transpose(1, 0, 2)
        self.count += x.shape[1]
        self._x += x.sum(axis=1)
        self._y += y.sum(axis=1)
        self._xx += x.transpose(0, 2, 1) @ x
        self._yx += y.transpose(0, 2, 1) @ x
        self._yy += np.square(y).sum(axis=1)

    @property
    def power(self) -> float:
        """The squared error of a layer that gives nothing."""
        return float(np.sum(self._yy) / max(1, self.count))

    def error(self, fitted: Fitted) -> float:
        """Return the squared error of such a layer, a mean over patches and a sum over outputs."""
        weights, biases = fitted
        x, y, xx, yx, yy = self._means()
        missed = yy - 2 * np.einsum("god,god->go", weights, yx) - 2 * biases * y
        made = np.einsum("god,god->go", weights @ xx, weights) + np.square(biases)
        made += 2 * biases * np.einsum("god,gd->go", weights, x)
        return max(0.0, float((missed + made).sum()))

    def solved(self, before: Fitted, ridge: float, *, biased: bool) -> Fitted:
        """Return the weights of least error that a pull keeps near those before."""
        x, y, xx, yx, _ = self._means()
        if biased:
            xx = xx - x[:, :, np.newaxis] * x[:, np.newaxis, :]
            yx = yx - y[:, :, np.newaxis] * x[:, np.newaxis, :]
        size = xx.shape[1]
        pull = ridge * np.trace(xx, axis1=1, axis2=2) / size + np.finfo(np.float64).tiny
        stiff = xx + pull[:, np.newaxis, np.newaxis] * np.eye(size)
        missing = yx - before.weights @ xx
        step = np.linalg.solve(stiff, missing.transpose(0, 2, 1)).transpose(0, 2, 1)
        weights = before.weights + step
        biases = y - np.einsum("god,gd->go", weights, x) if biased else np.zeros_like(y)
        return Fitted(weights, biases)

    def _means(self) -> Sequence[_Floats]:
        return [
            one / max(1, self.count) for one in (self._x, self._y, self._xx, self._yx, self._yy)
        ]


def fitted(seen: Sums, unseen: Sums, before: Fitted, *, biased: bool) -> Fitted | None:
    """Return the weights that ``seen`` leads to; None where ``unseen`` is met no better by them.

    How far they may go from those before is found on ``unseen``: weaker and weaker pulls are tried
    while they help there.
    """
    best, least = None, unseen.error(before)
    if least <= _EXACT * unseen.power:
        return None
    for ridge in RIDGES:
        try:
            found = seen.solved(before, ridge, biased=biased)
        except np.linalg.LinAlgError:  # singular: a weaker pull is more so
            break
        error = unseen.error(found)
        if not error <= _BETTER * least:
            if best is not None:
                break
            continue
        best, least = found, error
    return best
