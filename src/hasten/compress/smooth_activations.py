"""SmoothQuant: channels of outliers become smaller, and the weights that read them larger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hasten.compress.activations.observation import activations
from hasten.compress.effect import Effect
from hasten.compress.rescaling.flow import Linear
from hasten.compress.rescaling.scaling import ChannelScaling
from hasten.compress.step import Context, StepConfig, applied, refuse_control_flow
from hasten.errors import OptionError, RefusedError

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["SmoothActivations", "apply"]

#: Least size of a channel or weight: a channel that was never alive gets no extreme scale.
_LEAST = 1e-5


class SmoothActivations(StepConfig, frozen=True, tag="smooth_activations"):
    """Divide channels by ``activation^alpha / weight^(1 - alpha)``, of the largest of each.

    ``alpha`` from 0 to 1 says how much of the difficulty moves from activations, which have one
    scale for all channels, to weights. The float function stays the same. Needs samples.
    """

    effect: ClassVar[Effect] = Effect(needs=frozenset({"calibration"}))

    alpha: float = 0.5

    def __post_init__(self) -> None:
        """Raise OptionError for an alpha that is no share."""
        if not 0 <= self.alpha <= 1:
            raise OptionError(expected="0 to 1", got=str(self.alpha), where="alpha")


def apply(model: Model, config: SmoothActivations, context: Context) -> Model:
    """Fold the scales into what comes before: a normalisation or a layer, as far as it is exact.

    Raises RefusedError where there are no samples, or no channel can take a scale.

    Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
    Language Models", ICML 2023 (arXiv 2211.10438), equation 4. Where one activation feeds several
    layers, the largest weight of them counts, and what stands before it may be anything that
    ``hasten.compress.rescaling.rules`` can pass a factor through.
    """
    refuse_control_flow(model, "smoothing activations")
    scaling = ChannelScaling(model.graph)
    if not scaling.free.any():
        raise RefusedError(
            "no normalisation or layer with constant weights stands before another:"
            " there is nothing to smooth"
        )
    seen = np.maximum(_largest_activations(model, scaling, context), _LEAST)
    read = np.maximum(scaling.consumed(np.ones(scaling.flow.size)), _LEAST)
    smooth = seen**config.alpha / read ** (1 - config.alpha)
    graph = scaling.rescaled(np.where(scaling.free, np.maximum(smooth, _LEAST), 1.0))
    smoothed = model.evolve(graph, model.signature, applied(config))
    before = context.unfolded.get(model.digest)
    if before is not None:
        context.unfolded[smoothed.digest] = apply(before, config, context)
    return smoothed


def _largest_activations(
    model: Model, scaling: ChannelScaling, context: Context
) -> npt.NDArray[np.float64]:
    """For each class of channels, the largest absolute value that a layer reads of it."""
    flow = scaling.flow
    layers = [one for one in flow.linears if scaling.free[flow.classes(one.source)].any()]
    found = np.zeros(flow.size)
    reads = list(dict.fromkeys(one.node.input[0] for one in layers))
    classes = {one.node.input[0]: flow.classes(one.source) for one in layers}
    of_input = {one.node.input[0]: one for one in layers}
    for values in activations(model, reads, context, "reading activations"):
        for name in reads:
            np.maximum.at(found, classes[name], _channel_peaks(of_input[name], values[name]))
    return found


def _channel_peaks(linear: Linear, value: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    axis = 1 if linear.node.op_type in {"Conv", "ConvTranspose"} else value.ndim - 1
    others = tuple(at for at in range(value.ndim) if at != axis)
    return np.asarray(np.abs(value).max(axis=others), np.float64)
