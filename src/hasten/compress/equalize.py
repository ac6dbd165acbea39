"""Cross-layer equalization: the same float function, with weights that 8 bits can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hasten.compress.rescaling.scaling import ChannelScaling
from hasten.compress.step import Context, StepConfig, applied, refuse_control_flow
from hasten.errors import RefusedError
from hasten.graph.batch_norm import without_batch_norms

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["Equalize", "apply", "equalizing_scales"]

_SWEEPS = 200
#: Converged where no scale moves by more than this, as a natural logarithm.
_STILL = 1e-3
#: Of each step that a sweep would take. All layers move at once, and a whole step overshoots.
_DAMPING = 0.7


class Equalize(StepConfig, frozen=True, tag="equalize"):
    """Rescale channels so that the weights that make them and those that read them are alike.

    Needs no samples and no settings. Batch norms are folded first.
    """


def apply(model: Model, config: Equalize, context: Context) -> Model:
    """Return the model with equalized weights; raises RefusedError where there is no such pair."""
    refuse_control_flow(model, "equalization")
    whole, model = model, without_batch_norms(model)
    scaling = ChannelScaling(model.graph)
    if not scaling.free.any():
        raise RefusedError(
            "no two layers are joined by what passes a factor on (a ReLU, a pool, a sum):"
            " there is nothing to equalize"
        )
    graph = scaling.rescaled(equalizing_scales(scaling))
    equalized = model.evolve(graph, model.signature, applied(config))
    before = context.unfolded.get(whole.digest)
    if before is not None:
        context.unfolded[equalized.digest] = apply(before, config, context)
    return equalized


def equalizing_scales(scaling: ChannelScaling) -> npt.NDArray[np.float64]:
    """For each class of channels, the scale that makes both sides equally large.

    With ``r1`` the largest weight or bias that makes a channel and ``r2`` the largest that reads
    it, the scale is ``sqrt(r1 / r2)``; since each scale moves its neighbours, all are found anew
    until they stand still. Where residual sums tie channels of several layers together, the
    largest of them counts.

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
    ICCV 2019 (arXiv 1906.04721), section 4.1. That a bias counts as a weight stands in for the
    paper's absorption of high biases: no channel is blown up by the bias that it carries.
    """
    logs = np.zeros(scaling.flow.size)
    for _ in range(_SWEEPS):
        scales = np.exp(logs)
        made, read = scaling.produced(scales), scaling.consumed(scales)
        moved = np.zeros_like(logs)
        moved[scaling.free] = 0.5 * np.log(made[scaling.free] / read[scaling.free])
        logs += _DAMPING * moved
        if np.abs(moved).max() < _STILL:
            break
    return np.exp(logs)
