"""Dynamic int8: int8 weights, and activations quantized anew in every run. Needs no samples."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hasten.compress.step import Context, StepConfig, applied, refuse_control_flow
from hasten.errors import RefusedError
from hasten.runtimes.vendor import one_line

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["DynamicInt8", "apply"]


class DynamicInt8(StepConfig, frozen=True, tag="dynamic_int8"):
    """Weights S8 per channel, activations U8 with ranges found at run time."""


def apply(model: Model, config: DynamicInt8, context: Context) -> Model:
    """Quantize what ONNX Runtime's dynamic quantizer covers: matrix products and convolutions."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    refuse_control_flow(model, "dynamic int8")
    target = context.scratch / f"dynamic-{model.digest[:16]}.onnx"
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    logging.getLogger().setLevel(logging.ERROR)
    try:
        quantize_dynamic(graph, target, per_channel=True, weight_type=QuantType.QInt8)
        quantized = onnx.load(target)
    except Exception as error:
        raise RefusedError(f"the dynamic quantizer failed: {one_line(error)}") from error
    finally:
        target.unlink(missing_ok=True)
    if not any(node.op_type == "DynamicQuantizeLinear" for node in quantized.graph.node):
        raise RefusedError("the graph has no matrix product or convolution with constant weights")
    return model.evolve(quantized, model.signature, applied(config))
