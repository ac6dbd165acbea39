"""Weight-only int4: an eighth of the bytes on disk and in memory, float arithmetic. No samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hasten.compress.effect import Effect
from hasten.compress.quantization.weight_only import with_integer_weights
from hasten.compress.step import Context, StepConfig, applied
from hasten.graph.batch_norm import without_batch_norms

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["WeightInt4", "apply"]


class WeightInt4(StepConfig, frozen=True, tag="weight_int4"):
    """Weights of 4 bits, symmetric, one scale per output channel, two to a byte.

    For matrix products that wait for their weights: OpenVINO reads them as they are. ONNX Runtime
    makes floats of them anew in each run.
    """

    effect: ClassVar[Effect] = Effect(makes="quantized")


def apply(model: Model, config: WeightInt4, context: Context) -> Model:
    """Store the weights as INT4, and put a DequantizeLinear before their use."""
    del context
    graph = with_integer_weights(without_batch_norms(model).graph, "w4")
    return model.evolve(graph, model.signature, applied(config))
