"""From ranges of activations to a graph with QuantizeLinear/DequantizeLinear pairs (QDQ).

The writer is ONNX Runtime's; what it does to a graph is said here once, for all that have to agree
with it: which operators it quantizes, and which tensors it takes out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hasten.compress.quantization.calibration import Range
from hasten.compress.quantization.rounding import RoundedWeight, Weights, round_weights
from hasten.compress.quantization.shared_ranges import shared_ranges
from hasten.compress.step import quiet_quantizer
from hasten.errors import RefusedError, one_line
from hasten.graph import constants_of, node_names

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Activations",
    "lifted",
    "quantized_kinds",
    "ranges_of_kernels",
    "removed_by_writer",
    "write_qdq",
]

#: How activations are stored: unsigned or signed, or in 16 bits, symmetric.
Activations = Literal["u8", "s8", "s16"]

#: ONNX Runtime's name for each.
_STORED: dict[Activations, str] = {"u8": "QUInt8", "s8": "QInt8", "s16": "QInt16"}
#: Per-channel scales came with opset 13, integers of 16 bits with opset 21.
_MIN_OPSETS: dict[Activations, int] = {"u8": 13, "s8": 13, "s16": 21}
#: The QDQ writer takes these out where they follow what it quantizes.
_RECTIFIERS = frozenset({"Relu", "Clip"})
#: A sigmoid or tanh that reaches this is rounded in the steps of the kernels that know no other.
_HALF = 0.5


def write_qdq(
    graph: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    activations: Activations = "u8",
    weights: Weights = "w8",
    float_nodes: Collection[str] = (),
    rounded: Mapping[str, RoundedWeight] = MappingProxyType({}),
) -> onnx.ModelProto:
    """Return the graph with its convolutions, matrix products and what lies between in int8.

    ``ranges`` are of the activations, by tensor name; those that the writer takes out need none,
    see ``removed_by_writer``, and what a Concat joins shares one. Weights are S8 per channel, at
    the nearest levels but for those in ``rounded``, by name, whose levels and scales the graph will
    hold. Nodes in ``float_nodes``, called as ``hasten.graph.node_names`` calls them, stay in float,
    and their weights exact. Raises RefusedError with the reason where the writer fails.
    """
    if weights == "w4":  # the writer rounds to 8 or 7 bits of its own
        rounded = {**round_weights(graph, weights), **rounded}
    named = zip(graph.graph.node, node_names(graph), strict=True)
    exact = {name for node, label in named if label in float_nodes for name in node.input}
    rounded = {name: weight for name, weight in rounded.items() if name not in exact}
    ready = shared_ranges(graph, ranges, _rectified(graph))
    # A Concat has its inputs at one range, whatever made them.
    own = {name: found for name, found in ranges.items() if ready[name] == found}
    overrides = _overrides(ranges_of_kernels(graph, own, activations))
    for name, output in reversed(removed_by_writer(graph).items()):
        if output in ready:
            ready.setdefault(name, ready[output])
    try:
        return _written(
            graph,
            ready,
            overrides,
            activations=activations,
            weights=weights,
            float_nodes=float_nodes,
            rounded=rounded,
        )
    except Exception as error:
        raise RefusedError(f"the QDQ writer failed: {one_line(error)}") from error


def _written(
    graph: onnx.ModelProto,
    ranges: Mapping[str, Range],
    overrides: dict[str, list[dict[str, Any]]],
    *,
    activations: Activations,
    weights: Weights,
    float_nodes: Collection[str],
    rounded: Mapping[str, RoundedWeight],
) -> onnx.ModelProto:
    import onnx

    source = onnx.ModelProto()
    source.CopyFrom(lifted(graph, _MIN_OPSETS[activations]))
    overrides = {
        **_outputs_of_their_own(source, ranges),
        **overrides,
        **_with_levels(source, rounded),
    }
    if float_nodes:
        # The writer tells nodes apart by their names.
        for node, name in zip(source.graph.node, node_names(source), strict=True):
            node.name = name
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
            reduce_range=weights == "w7",
            weight_qType=QuantType.QInt8,
            activation_qType=getattr(QuantType, _STORED[activations]),
            tensors_range=_tensors_range(ranges),
            nodes_to_quantize=[],
            nodes_to_exclude=[*float_nodes, *(node.name for node in kept)],
            op_types_to_quantize=sorted(quantized_kinds()),
            extra_options={
                "WeightSymmetric": True,
                "ActivationSymmetric": activations == "s16",
                "TensorQuantOverrides": overrides,
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()  # ONNX asks for it, and readers refuse a file without
    written: onnx.ModelProto = quantizer.model.model
    return written


def removed_by_writer(graph: onnx.ModelProto) -> dict[str, str]:
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
    constants = constants_of(graph.graph)
    clips = [node for node in graph.graph.node if node.op_type == "Clip"]
    return [node for node in clips if not _holds_zero(node, constants)]


def _holds_zero(clip: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether the bounds are known, and zero is within."""
    bounds = _bounds(clip, constants)
    return bounds is not None and bounds.low <= 0.0 <= bounds.high


def _bounds(rectifier: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Range | None:
    """What a Relu or Clip lets pass; a Clip's are attributes before opset 11, None if computed."""
    from onnx import numpy_helper

    if rectifier.op_type == "Relu":
        return Range(0.0, math.inf)
    bounds = {attribute.name: attribute.f for attribute in rectifier.attribute}
    for bound, name in zip(("min", "max"), rectifier.input[1:], strict=False):
        if name and name not in constants:
            return None
        if name:
            bounds[bound] = numpy_helper.to_array(constants[name]).item()
    return Range(bounds.get("min", -math.inf), bounds.get("max", math.inf))


def _rectified(graph: onnx.ModelProto) -> dict[str, Range]:
    """Tensors whose range stands in for the Relu or Clip before them, and what that lets pass."""
    constants = constants_of(graph.graph)
    removed = removed_by_writer(graph).items()
    made = {node.output[0]: node for node in graph.graph.node if node.op_type in _RECTIFIERS}
    bounds = {output: _bounds(made[output], constants) for _, output in removed}
    return {name: found for name, found in bounds.items() if found is not None}


def _tensors_range(ranges: Mapping[str, Range]) -> Any:
    """Ranges in the writer's own type; the method it asks for says nothing where they are given."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    data = {
        name: TensorData(lowest=np.float32(found.low), highest=np.float32(found.high))
        for name, found in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, data)


def _with_levels(
    graph: onnx.ModelProto, rounded: Mapping[str, RoundedWeight]
) -> dict[str, list[dict[str, Any]]]:
    """Put weights on their levels, in place; return the scales that the writer finds them with."""
    from onnx import numpy_helper

    scales = {}
    for tensor in graph.graph.initializer:
        weight = rounded.get(tensor.name)
        if weight is None:
            continue
        tensor.CopyFrom(numpy_helper.from_array(weight.values, tensor.name))
        scales[tensor.name] = [
            {"axis": weight.axis, "scale": scale, "zero_point": 0} for scale in weight.scale
        ]
    return scales


def _outputs_of_their_own(
    graph: onnx.ModelProto, ranges: Mapping[str, Range]
) -> dict[str, list[dict[str, Any]]]:
    """Ranges of outputs that a Relu or Clip reads too: the writer would give them that node's."""
    rectified = {node.input[0] for node in graph.graph.node if node.op_type in _RECTIFIERS}
    names = [output.name for output in graph.graph.output]
    return _overrides({one: ranges[one] for one in names if one in rectified and one in ranges})


def _overrides(ranges: Mapping[str, Range]) -> dict[str, list[dict[str, Any]]]:
    """Ranges as the writer takes them where they are not to be the observed ones."""
    return {
        name: [{"rmin": np.float32(found.low), "rmax": np.float32(found.high)}]
        for name, found in ranges.items()
    }


def ranges_of_kernels(
    graph: onnx.ModelProto, ranges: Mapping[str, Range], activations: Activations
) -> dict[str, Range]:
    """Return the ranges, by tensor, at which integer kernels compute what the graph says.

    TFLite's kernels write softmax and sigmoid in steps of 1/256, tanh of 1/128, and have another
    scale made of that, which is rounding twice. A sigmoid or tanh that stays within half of its
    range keeps its own: it would lose more. ONNX Runtime's softmax takes the whole part of the
    scale's reciprocal, so that 0 to 1 comes out as 254 steps; where it is signed, steps of 1/256
    would wrap around at a probability of 1, and it gets 255 steps, of a hair less than 1/255.
    """
    if activations == "s16":
        return {}
    below_one = float(np.nextafter(np.float32(1), np.float32(0)))
    known = {
        "Softmax": Range(0.0, 255 / 256 if activations == "u8" else below_one),
        "Sigmoid": Range(0.0, 255 / 256),
        "Tanh": Range(-1.0, 127 / 128),
    }
    made = {node.output[0]: node.op_type for node in graph.graph.node if node.op_type in known}
    return {
        name: known[kind]
        for name, kind in made.items()
        if name in ranges and (kind == "Softmax" or _peak(ranges[name]) >= _HALF)
    }


def _peak(found: Range) -> float:
    return max(-found.low, found.high)


def quantized_kinds() -> set[str]:
    """Operators that the writer quantizes; the others stay in float."""
    with quiet_quantizer():
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return {*QLinearOpsRegistry, *QDQRegistry}


def lifted(graph: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Lift an older graph to this opset."""
    from onnx import version_converter

    old = any(one.domain in {"", "ai.onnx"} and one.version < opset for one in graph.opset_import)
    return version_converter.convert_version(graph, opset) if old else graph
