"""Static int8: weights and activations in int8, with ranges from calibration samples (QDQ)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hasten.compress.bias_correction import correct_biases, correctable_inputs
from hasten.compress.calibration import CALIBRATORS, Range
from hasten.compress.channel_mean import ChannelMean
from hasten.compress.fold_input import normalised_tensor, pixel_range
from hasten.compress.histogram import Histogram
from hasten.compress.step import (
    Context,
    Observation,
    StepConfig,
    applied,
    quiet_quantizer,
    refuse_control_flow,
)
from hasten.compress.weight_int8 import Weights
from hasten.errors import DataError, RefusedError, one_line
from hasten.graph import Signature, TensorSpec
from hasten.runtimes import Arrays, Execution, Session, get_runtime

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["Calibrator", "StaticInt8", "apply", "observe"]

Calibrator = Literal["minmax", "percentile", "mse", "entropy"]

#: One sample at a time: its activations are counted while the cache still holds them, and memory
#: is needed for one. More at once were no faster.
_BATCH = 1
_MIN_OPSET = 13
#: TensorProto.FLOAT, without importing onnx.
_FLOAT = 1
#: The QDQ writer takes these out where they follow what it quantizes.
_RECTIFIERS = frozenset({"Relu", "Clip"})


class StaticInt8(StepConfig, frozen=True, tag="static_int8"):
    """Weights S8 per channel; activations ``u8`` or ``s8`` per tensor, asymmetric.

    Which of the two is faster is the runtime's affair, and can be a factor of two. ``w7`` keeps
    the weights within 7 bits, for processors on which products of 8 bits saturate.
    """

    activations: Literal["u8", "s8"] = "u8"
    weights: Weights = "w8"
    calibrator: Calibrator = "minmax"
    bias: Literal["corrected", "plain"] = "corrected"


def apply(model: Model, config: StaticInt8, context: Context) -> Model:
    """Write QuantizeLinear/DequantizeLinear pairs with ranges from our own calibrators."""
    refuse_control_flow(model, "static int8")
    if context.calibration is None:
        raise RefusedError("static int8 needs calibration samples: give --data")
    if not _quantizable(model.graph):
        raise RefusedError("the graph has no convolution or matrix product with constant weights")
    calibrate = CALIBRATORS[config.calibrator]
    seen = observe(model, context)
    ranges = {name: calibrate(histogram) for name, histogram in seen.histograms.items()}
    ranges |= _folded_ranges(model, context)
    for name, output in reversed(_removed_by_writer(model.graph).items()):
        if output in ranges:
            ranges.setdefault(name, ranges[output])
    graph = model.graph
    if config.bias == "corrected":
        means = {name: mean.value for name, mean in seen.means.items()}
        graph = correct_biases(graph, means, config.weights)
    try:
        graph = _write_qdq(graph, ranges, config)
    except Exception as error:
        raise RefusedError(f"the QDQ writer failed: {one_line(error)}") from error
    return model.evolve(graph, model.signature, applied(config))


def observe(model: Model, context: Context) -> Observation:
    """Run the calibration samples through the graph: histograms of activations, means of inputs.

    A histogram is kept of each float32 activation whose range the QDQ writer uses and is not known
    already, channel means of what convolutions and matrix products read; so memory does not grow
    with the number of samples. Observing the same model again costs nothing. Raises RefusedError
    where an activation is NaN or infinite.
    """
    if model.digest in context.observations:
        return context.observations[model.digest]
    if model.digest in context.unfolded:
        seen = observe(context.unfolded[model.digest], context)
        return _renamed(seen, {name: normalised_tensor(name) for name in context.preprocessing})
    samples = context.calibration
    if samples is None:
        raise RefusedError("there are no calibration samples")
    inputs, produced = _watched(model, context)
    if not produced:
        raise RefusedError("the graph has no float32 activations that ONNX can infer")
    histograms = {name: Histogram(name=name) for name in (*inputs, *produced)}
    means = {name: ChannelMean() for name in correctable_inputs(model.graph)}
    known = {spec.name for spec in model.signature.inputs}
    read = [name for name in means if name not in known and name not in histograms]
    _, rows_per_sample = next(samples.select([0]).batches(model.signature, 1))
    with (
        _session(_with_outputs(model, [*produced, *read]), context) as session,
        context.progress.stage("calibrating", len(samples)) as advance,
    ):
        for feed, rows in samples.batches(model.signature, _BATCH):
            values = _that_count({**feed, **session.run(feed)}, model.signature.batch, rows)
            for name, histogram in histograms.items():
                _add(histogram, values[name])
            for name, mean in means.items():
                mean.add(values[name])
            advance(rows // rows_per_sample)
    observation = Observation(histograms, means)
    context.observations[model.digest] = observation
    return observation


def _renamed(seen: Observation, names: Mapping[str, str]) -> Observation:
    """Return what was seen, with other names for some of the tensors."""
    return Observation(
        {names.get(name, name): histogram for name, histogram in seen.histograms.items()},
        {names.get(name, name): mean for name, mean in seen.means.items()},
    )


def _that_count(values: Arrays, batch: int | None, rows: int) -> Arrays:
    """Keep the first ``rows`` of a fixed batch: the others only repeat the last of them.

    A tensor that has no batch axis in front is kept whole: repeated values widen no range.
    """
    if batch is None or rows >= batch:
        return values
    return {
        name: value[:rows] if value.shape[:1] == (batch,) else value
        for name, value in values.items()
    }


def _add(histogram: Histogram, value: np.ndarray) -> None:
    try:
        histogram.add(value)
    except DataError as error:
        raise RefusedError(f"an activation cannot be calibrated: {error}") from error


@contextmanager
def _session(model: Model, context: Context) -> Iterator[Session]:
    """Open a model for this once; nothing of it stays on disk."""
    runtime = get_runtime("onnxruntime")
    lowered = runtime.lower(model, context.scratch)
    session = runtime.open(lowered, Execution(threads=os.cpu_count() or 1))
    try:
        yield session
    finally:
        session.close()
        Path(lowered.path).unlink(missing_ok=True)


def _watched(model: Model, context: Context) -> tuple[list[str], list[str]]:
    """Return the float32 inputs, and the float32 results of nodes, that need a histogram."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model.graph).graph
    floats = {
        value.name
        for value in (*graph.value_info, *graph.output, *graph.input)
        if value.type.tensor_type.elem_type == _FLOAT
    }
    kinds = _quantized_kinds()
    quantized = {
        name for node in graph.node if node.op_type in kinds for name in (*node.input, *node.output)
    }
    removed = {name for name, end in _removed_by_writer(model.graph).items() if end in floats}
    wanted = (floats & quantized) - removed - set(_folded_ranges(model, context))
    inputs = [spec.name for spec in model.signature.inputs if spec.name in wanted]
    return inputs, [name for node in graph.node for name in node.output if name in wanted]


def _with_outputs(model: Model, names: Sequence[str]) -> Model:
    """Return the model with these tensors as its outputs."""
    import onnx
    from onnx import helper

    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    del graph.graph.output[:]
    graph.graph.output.extend(helper.make_tensor_value_info(name, _FLOAT, None) for name in names)
    outputs = tuple(TensorSpec(name, "float32", ()) for name in names)
    return replace(model, content=graph, signature=Signature(model.signature.inputs, outputs))


def _removed_by_writer(graph: onnx.ModelProto) -> dict[str, str]:
    """Tensors that only a Relu or Clip reads, and its output: in the order of the graph.

    The writer takes that node out and quantizes its output alone, since a quantized range clips
    just as well, whether its levels are unsigned or signed.
    """
    readers = Counter(name for node in graph.graph.node for name in node.input)
    produced = {name for node in graph.graph.node for name in node.output}
    outputs = {output.name for output in graph.graph.output}
    kept = {node.output[0] for node in _clips_to_keep(graph)}
    return {
        node.input[0]: node.output[0]
        for node in graph.graph.node
        if node.op_type in _RECTIFIERS
        and readers[node.input[0]] == 1
        and node.input[0] in produced - outputs
        and node.output[0] not in kept
    }


def _clips_to_keep(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Clips that no quantized range stands in for: it would hold zero, and they may not."""
    constants = _constants(graph)
    clips = [node for node in graph.graph.node if node.op_type == "Clip"]
    return [node for node in clips if not _holds_zero(node, constants)]


def _holds_zero(clip: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether zero is within the bounds, which are attributes before opset 11."""
    from onnx import numpy_helper

    bounds = {attribute.name: attribute.f for attribute in clip.attribute}
    for bound, name in zip(("min", "max"), clip.input[1:], strict=False):
        if name and name not in constants:
            return False
        if name:
            bounds[bound] = numpy_helper.to_array(constants[name]).item()
    return bool(bounds.get("min", 0.0) <= 0.0 <= bounds.get("max", 0.0))


def _constants(graph: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    made = {
        node.output[0]: attribute.t
        for node in graph.graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in graph.graph.initializer}


def _quantizable(graph: onnx.ModelProto) -> bool:
    constants = {tensor.name for tensor in graph.graph.initializer if tensor.data_type == _FLOAT}
    return any(
        node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"}
        and not constants.isdisjoint(node.input[:2])
        for node in graph.graph.node
    )


def _folded_ranges(model: Model, context: Context) -> dict[str, Range]:
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
    graph: onnx.ModelProto, ranges: Mapping[str, Range], config: StaticInt8
) -> onnx.ModelProto:
    """ONNX Runtime's QDQ writer, fed with ready ranges."""
    import onnx

    source = onnx.ModelProto()
    source.CopyFrom(_at_opset_13(graph))
    unsigned = config.activations == "u8"
    kept = _clips_to_keep(source)
    for node in kept:
        # The writer tells nodes apart by their names, and this one may have none.
        node.name = node.name or f"{node.output[0]}_clip"
    with quiet_quantizer():
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            source,
            per_channel=True,
            reduce_range=config.weights == "w7",
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            tensors_range=_tensors_range(ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[node.name for node in kept],
            op_types_to_quantize=sorted(_quantized_kinds()),
            extra_options={
                "WeightSymmetric": True,
                "ActivationSymmetric": False,
                "TensorQuantOverrides": _outputs_of_their_own(source, ranges),
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()  # ONNX asks for it, and readers refuse a file without
    written: onnx.ModelProto = quantizer.model.model
    return written


def _tensors_range(ranges: Mapping[str, Range]) -> Any:
    """Ranges in the writer's own type; the method it asks for says nothing where they are given."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    data = {
        name: TensorData(lowest=np.float32(found.low), highest=np.float32(found.high))
        for name, found in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, data)


def _outputs_of_their_own(
    graph: onnx.ModelProto, ranges: Mapping[str, Range]
) -> dict[str, list[dict[str, Any]]]:
    """Ranges of outputs that a Relu or Clip reads too: the writer would give them that node's."""
    rectified = {node.input[0] for node in graph.graph.node if node.op_type in _RECTIFIERS}
    return {
        output.name: [
            {
                "rmin": np.float32(ranges[output.name].low),
                "rmax": np.float32(ranges[output.name].high),
            }
        ]
        for output in graph.graph.output
        if output.name in rectified and output.name in ranges
    }


def _quantized_kinds() -> set[str]:
    """Operators that the writer quantizes; the others stay in float."""
    with quiet_quantizer():
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return {*QLinearOpsRegistry, *QDQRegistry}


def _at_opset_13(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Per-channel scales came with opset 13; lift an older graph to it."""
    from onnx import version_converter

    old = any(
        opset.domain in {"", "ai.onnx"} and opset.version < _MIN_OPSET
        for opset in graph.opset_import
    )
    return version_converter.convert_version(graph, _MIN_OPSET) if old else graph
