"""Static int8: weights and activations in int8, with ranges from calibration samples (QDQ)."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hasten.compress.calibration import CALIBRATORS, Range
from hasten.compress.fold_input import normalised_tensor, pixel_range
from hasten.compress.histogram import Histogram
from hasten.compress.step import Context, StepConfig, applied, refuse_control_flow
from hasten.errors import RefusedError
from hasten.graph import Signature, TensorSpec
from hasten.runtimes import Execution, get_runtime
from hasten.runtimes.vendor import one_line

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["Calibrator", "StaticInt8", "apply", "observe"]

Calibrator = Literal["minmax", "percentile", "mse", "entropy"]

#: Samples run at once while observing: every intermediate tensor of a batch is held in memory.
_BATCH = 4
_MIN_OPSET = 13


class StaticInt8(StepConfig, frozen=True, tag="static_int8"):
    """Weights S8 per channel; activations ``u8`` or ``s8`` per tensor, asymmetric.

    Which of the two is faster is the runtime's affair, and can be a factor of two.
    """

    activations: Literal["u8", "s8"] = "u8"
    calibrator: Calibrator = "minmax"


def apply(model: Model, config: StaticInt8, context: Context) -> Model:
    """Write QuantizeLinear/DequantizeLinear pairs with ranges from our own calibrators."""
    refuse_control_flow(model, "static int8")
    if context.calibration is None:
        raise RefusedError("static int8 needs calibration samples: give --data")
    if not _quantizable(model.graph):
        raise RefusedError("the graph has no convolution or matrix product with constant weights")
    calibrate = CALIBRATORS[config.calibrator]
    ranges = {name: calibrate(seen) for name, seen in observe(model, context).items()}
    folded = _folded_inputs(model, context)
    # The normalisation stays in float: its own intermediates would only add rounding.
    kept = [n.name for n in model.graph.graph.node if n.name.startswith(tuple(folded))]
    try:
        graph = _write_qdq(model.graph, {**ranges, **folded}, config.activations, kept)
    except Exception as error:
        raise RefusedError(f"the QDQ writer failed: {one_line(error)}") from error
    return model.evolve(graph, model.signature, applied(config))


def observe(model: Model, context: Context) -> dict[str, Histogram]:
    """Run the calibration samples through the graph; one histogram per float32 activation.

    Only the histograms are kept, so memory does not grow with the number of samples. Observing
    the same model again costs nothing.
    """
    if model.digest in context.observations:
        return context.observations[model.digest]
    samples = context.calibration
    if samples is None:
        raise RefusedError("there are no calibration samples")
    watched, names = _with_all_outputs(model)
    runtime = get_runtime("onnxruntime")
    lowered = runtime.lower(watched, context.scratch)
    session = runtime.open(lowered, Execution(threads=os.cpu_count() or 1))
    histograms = {name: Histogram(name=name) for name in names}
    with context.progress.stage("calibrating", len(samples)) as advance:
        for feed, valid in samples.batches(model.signature, _BATCH):
            values = {**feed, **session.run(feed)}
            for name, histogram in histograms.items():
                histogram.add(values[name])
            advance(valid)
    session.close()
    context.observations[model.digest] = histograms
    return histograms


def _with_all_outputs(model: Model) -> tuple[Model, list[str]]:
    """Return the model with every float32 activation as an output, and their names."""
    from onnx import TensorProto, helper, shape_inference

    graph = shape_inference.infer_shapes(model.graph)
    declared = {output.name for output in graph.graph.output}
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.graph.value_info, *graph.graph.output, *graph.graph.input)
    }
    constants = {tensor.name for tensor in graph.graph.initializer}
    produced = [name for node in graph.graph.node for name in node.output if name]
    floats = [name for name in produced if types.get(name) == TensorProto.FLOAT]
    for name in floats:
        if name not in declared:
            value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            graph.graph.output.append(value)
    inputs = [
        spec.name
        for spec in model.signature.inputs
        if spec.dtype == "float32" and spec.name not in constants
    ]
    outputs = tuple(TensorSpec(name, "float32", ()) for name in floats)
    signature = Signature(model.signature.inputs, outputs)
    return replace(model, content=graph, signature=signature), [*inputs, *floats]


def _quantizable(graph: onnx.ModelProto) -> bool:
    constants = {tensor.name for tensor in graph.graph.initializer}
    return any(
        node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"} and constants & set(node.input)
        for node in graph.graph.node
    )


def _folded_inputs(model: Model, context: Context) -> dict[str, Range]:
    """Float tensors made of folded pixels, with their ranges: known exactly, not observed.

    Where the normalisation allows it, the pixels themselves then are the quantized input.
    """
    folded = {spec.name for spec in model.signature.inputs if spec.dtype == "uint8"}
    return {
        normalised_tensor(name): Range.spanning(*pixel_range(preprocessing))
        for name, preprocessing in context.preprocessing.items()
        if name in folded
    }


def _write_qdq(
    graph: onnx.ModelProto,
    ranges: dict[str, Range],
    activations: Literal["u8", "s8"],
    kept: list[str],
) -> onnx.ModelProto:
    """ONNX Runtime's QDQ writer, fed with ready ranges."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    logging.getLogger().setLevel(logging.ERROR)
    data: dict[str, Any] = {
        name: TensorData(lowest=np.float32(found.low), highest=np.float32(found.high))
        for name, found in ranges.items()
    }
    source = onnx.ModelProto()
    source.CopyFrom(_at_opset_13(graph))
    quantizer = QDQQuantizer(
        source,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if activations == "u8" else QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=kept,
        op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry}),
        extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
    )
    quantizer.quantize_model()
    written: onnx.ModelProto = quantizer.model.model
    return written


def _at_opset_13(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Per-channel scales came with opset 13; lift an older graph to it."""
    from onnx import version_converter

    old = any(
        opset.domain in {"", "ai.onnx"} and opset.version < _MIN_OPSET
        for opset in graph.opset_import
    )
    return version_converter.convert_version(graph, _MIN_OPSET) if old else graph
