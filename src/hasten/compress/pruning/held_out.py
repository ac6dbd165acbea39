"""Calibration samples that weights are not solved with, and what a pruned model gives for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hasten.compress.activations.observation import activations
from hasten.compress.step import Context
from hasten.data import Samples

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model
    from hasten.worker.session import WorkerSession

__all__ = ["HeldOut", "divided"]

#: One of so many samples is held out, and so many at most.
_SHARE, _MOST = 4, 48


def divided(samples: Samples) -> tuple[Samples, Samples]:
    """Return samples to solve with, and some, evenly spread, that are held out.

    A single sample is both.
    """
    count = len(samples)
    if count == 1:
        return samples, samples
    held = np.linspace(0, count - 1, min(_MOST, max(1, count // _SHARE))).round().astype(int)
    rest = np.setdiff1d(np.arange(count), held)
    return samples.select(rest.tolist()), samples.select(held.tolist())


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What the whole model gives for the samples that are held out, by output: float arrays."""

    model: Model
    context: Context
    session: WorkerSession
    wanted: Mapping[str, list[npt.NDArray[np.float32]]]

    @classmethod
    def of(cls, model: Model, context: Context, session: WorkerSession) -> HeldOut:
        """Run the whole model on the context's samples."""
        names = [spec.name for spec in model.signature.outputs if spec.dtype == "float32"]
        empty = cls(model, context, session, {name: [] for name in names})
        return replace(empty, wanted=empty._outputs(model))

    def error(self, graph: onnx.ModelProto) -> float:
        """Return the squared error of a graph's outputs over their variance, a mean over outputs.

        0 where there are no float outputs to tell by, infinite where one is no number.
        """
        found = self._outputs(replace(self.model, content=graph))
        each = []
        for name, wanted in self.wanted.items():
            want, have = (
                np.concatenate([np.ravel(one) for one in part]).astype(np.float64)
                for part in (wanted, found[name])
            )
            noise = float(np.square(have - want).sum()) if have.shape == want.shape else math.inf
            signal = float(np.square(want - want.mean()).sum())
            each.append(noise / signal if signal else noise)
        total = float(np.mean(each)) if each else 0.0
        return total if math.isfinite(total) else math.inf

    def _outputs(self, model: Model) -> dict[str, list[npt.NDArray[np.float32]]]:
        found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in self.wanted}
        for values in activations(model, list(found), self.context, session=self.session):
            for name, kept in found.items():
                kept.append(np.array(values[name], np.float32))
        return found
