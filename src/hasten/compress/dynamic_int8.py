"""Dynamic int8: int8 weights, and activations quantized anew in every run. Needs no samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hasten.compress.effect import Effect
from hasten.compress.quantization.rounding import Weights
from hasten.compress.quantization.writer_form import for_writers
from hasten.compress.step import (
    Context,
    StepConfig,
    applied,
    quiet_quantizer,
    refuse_control_flow,
)
from hasten.errors import RefusedError, one_line
from hasten.graph.batch_norm import without_batch_norms

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from hasten.graph import Model

__all__ = ["DynamicInt8", "apply"]


class DynamicInt8(StepConfig, frozen=True, tag="dynamic_int8"):
    """Weights S8, per channel for matrix products; activations U8 with ranges found in each run.

    ``w7`` keeps the weights within 7 bits, for processors on which products of 8 bits saturate.
    """

    effect: ClassVar[Effect] = Effect(makes="quantized")

    weights: Weights = "w8"


def apply(model: Model, config: DynamicInt8, context: Context) -> Model:
    """Quantize what ONNX Runtime's dynamic quantizer covers: matrix products and convolutions."""
    refuse_control_flow(model, "dynamic int8")
    if config.weights == "w4":
        raise RefusedError("dynamic int8 has weights of 8 or 7 bits, not of 4")
    model = without_batch_norms(model)
    target = context.scratch / f"dynamic-{model.digest[:16]}.onnx"
    try:
        quantized = _quantized(model.graph, target, config.weights)
    except Exception as error:
        raise RefusedError(f"the dynamic quantizer failed: {one_line(error)}") from error
    finally:
        target.unlink(missing_ok=True)
    if not any(node.op_type == "DynamicQuantizeLinear" for node in quantized.graph.node):
        raise RefusedError("the graph has no matrix product or convolution with constant weights")
    return model.evolve(quantized, model.signature, applied(config))


def _quantized(graph: onnx.ModelProto, target: Path, weights: Weights) -> onnx.ModelProto:
    """ONNX Runtime's dynamic quantizer, which hands over its result as a file."""
    import onnx

    source = for_writers(graph)
    with quiet_quantizer():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            source,
            target,
            per_channel=True,
            reduce_range=weights == "w7",
            weight_type=QuantType.QInt8,
        )
    return onnx.load(target)
