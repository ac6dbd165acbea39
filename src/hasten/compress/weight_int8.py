"""Weight-only int8: a quarter of the bytes on disk, float arithmetic. Needs no samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hasten.compress.effect import Effect
from hasten.compress.quantization.weight_only import with_integer_weights
from hasten.compress.step import Context, StepConfig, applied
from hasten.graph.batch_norm import without_batch_norms

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["WeightInt8", "apply"]


class WeightInt8(StepConfig, frozen=True, tag="weight_int8"):
    """Weights S8, symmetric, one scale per output channel."""

    effect: ClassVar[Effect] = Effect(makes="quantized")


def apply(model: Model, config: WeightInt8, context: Context) -> Model:
    """Put the weights through QuantizeLinear for good, and a DequantizeLinear before their use."""
    del context
    graph = with_integer_weights(without_batch_norms(model).graph, "w8")
    return model.evolve(graph, model.signature, applied(config))
