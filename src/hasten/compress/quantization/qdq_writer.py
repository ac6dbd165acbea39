"""From ranges of activations to a graph with QuantizeLinear/DequantizeLinear pairs (QDQ).

The writer is ONNX Runtime's; what it does to a graph is said in the files beside this one, once,
for all that have to agree with it: what it takes out in ``rectifiers``, what it cannot take in
``float_nodes``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hasten.compress.quantization.calibration import Range
from hasten.compress.quantization.float_nodes import offenders, told, unwritable_nodes
from hasten.compress.quantization.kernel_ranges import ranges_of_kernels
from hasten.compress.quantization.rectifiers import (
    RECTIFIERS,
    clips_to_keep,
    rectified,
    removed_by_writer,
)
from hasten.compress.quantization.rounding import RoundedWeight, Weights, round_weights
from hasten.compress.quantization.shared_ranges import shared_ranges
from hasten.compress.quantization.writer_form import for_writers, quantized_kinds
from hasten.compress.step import quiet_quantizer
from hasten.errors import RefusedError, one_line
from hasten.graph import attribute_of

if TYPE_CHECKING:
    import onnx

__all__ = ["Activations", "Quantized", "quantized"]

#: How activations are stored: unsigned or signed, or in 16 bits, symmetric.
Activations = Literal["u8", "s8", "s16"]

#: ONNX Runtime's name for each.
_STORED: dict[Activations, str] = {"u8": "QUInt8", "s8": "QInt8", "s16": "QInt16"}
#: Per-channel scales came with opset 13, integers of 16 bits with opset 21.
_MIN_OPSETS: dict[Activations, int] = {"u8": 13, "s8": 13, "s16": 21}
#: A step as wide as this is none: with it a product of two leaves float32.
_WIDEST_STEP = 1e18
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})


class Quantized(NamedTuple):
    """A graph with Q/DQ pairs, and the nodes that were to get some and have none, with reasons."""

    graph: onnx.ModelProto
    left: dict[str, str]


def quantized(
    graph: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    activations: Activations = "u8",
    weights: Weights = "w8",
    float_nodes: Collection[str] = (),
    rounded: Mapping[str, RoundedWeight] = MappingProxyType({}),
) -> Quantized:
    """Return the graph with its convolutions, matrix products and what lies between in int8.

    ``ranges`` are of the activations, by tensor name; those that the writer takes out need none,
    see ``removed_by_writer``, and what a Concat joins shares one. Weights are S8 per channel, at
    the nearest levels but for those in ``rounded``, by name, whose levels and scales the graph will
    hold. Nodes in ``float_nodes``, called as ``hasten.graph.node_names`` calls them, stay in float,
    and their weights exact. So do nodes that the writer cannot take, which are told. Raises
    RefusedError where nothing else is left.
    """
    ready = for_writers(graph, _MIN_OPSETS[activations])
    constants = {tensor.name for tensor in ready.graph.initializer}
    known = {name: found for name, found in ranges.items() if name not in constants}
    ready_ranges = shared_ranges(ready, known, rectified(ready))
    # A Concat has its inputs at one range, whatever made them.
    own = {name: found for name, found in known.items() if ready_ranges[name] == found}
    of_kernels = ranges_of_kernels(ready, own, activations)
    for name, output in reversed(removed_by_writer(ready).items()):
        if output in ready_ranges:
            ready_ranges.setdefault(name, ready_ranges[output])
    left = {
        name: reason
        for name, reason in unwritable_nodes(ready, ready_ranges).items()
        if name not in float_nodes
    }
    _require_products(ready, left, float_nodes)
    writer = _Writer(ready, ready_ranges, of_kernels, activations, weights, rounded)
    try:
        return Quantized(writer.written({*float_nodes, *left}), left)
    except RefusedError:  # only trying tells whose fault it is
        left |= writer.offenders({*float_nodes, *left})
    _require_products(ready, left, float_nodes)
    return Quantized(writer.written({*float_nodes, *left}), left)


def _require_products(
    graph: onnx.ModelProto, left: Mapping[str, str], float_nodes: Collection[str]
) -> None:
    """Raise RefusedError where all that multiplies and was to be int8 would stay in float."""
    products = {node.name for node in graph.graph.node if node.op_type in _PRODUCTS}
    wanted = products - set(float_nodes)
    if wanted and wanted <= set(left):
        raise RefusedError(f"nothing is left to quantize: {told(left)}")


class _Writer(NamedTuple):
    """ONNX Runtime's writer, and what it is given. ``graph`` is in the form for writers."""

    graph: onnx.ModelProto
    ranges: Mapping[str, Range]
    of_kernels: Mapping[str, Range]
    activations: Activations
    weights: Weights
    rounded: Mapping[str, RoundedWeight]

    def offenders(self, excluded: Collection[str]) -> dict[str, str]:
        """Return what else has to stay in float for the writer to come through, and why."""
        kinds = quantized_kinds()
        names = [node.name for node in self.graph.graph.node if node.op_type in kinds]

        def failure(some: Collection[str]) -> str:
            try:
                self.written({*excluded, *names} - set(some))
            except RefusedError as refused:
                return str(refused)
            return ""

        return offenders([name for name in names if name not in excluded], failure)

    def written(self, excluded: Collection[str]) -> onnx.ModelProto:
        """Write the graph with these nodes in float; raises RefusedError where the writer fails."""
        try:
            made = self._written(excluded)
        except Exception as error:
            raise RefusedError(f"the QDQ writer failed: {one_line(error)}") from error
        known = {tensor.name for tensor in self.graph.graph.initializer}
        for problem in _ill_scaled(made, known):
            raise RefusedError(f"the QDQ writer failed: {problem}")
        return made

    def _written(self, excluded: Collection[str]) -> onnx.ModelProto:
        import onnx

        source = onnx.ModelProto()
        source.CopyFrom(self.graph)
        exact = {name for node in source.graph.node if node.name in excluded for name in node.input}
        rounded = {name: weight for name, weight in self._rounded().items() if name not in exact}
        overrides = {
            **_outputs_of_their_own(source, self.ranges),
            **_overrides(self.of_kernels),
            **_as_a_whole(source),
            **_with_levels(source, rounded),
        }
        kept = [node.name for node in clips_to_keep(source)]
        with quiet_quantizer():
            from onnxruntime.quantization import QuantType
            from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

            quantizer = QDQQuantizer(
                source,
                per_channel=True,
                reduce_range=self.weights == "w7",
                weight_qType=QuantType.QInt8,
                activation_qType=getattr(QuantType, _STORED[self.activations]),
                tensors_range=_tensors_range(self.ranges),
                nodes_to_quantize=[],
                nodes_to_exclude=[*excluded, *kept],
                op_types_to_quantize=sorted(quantized_kinds()),
                extra_options={
                    "WeightSymmetric": True,
                    "ActivationSymmetric": self.activations == "s16",
                    "TensorQuantOverrides": overrides,
                },
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()  # ONNX asks for it, readers refuse a file without
        written: onnx.ModelProto = quantizer.model.model
        return written

    def _rounded(self) -> Mapping[str, RoundedWeight]:
        if self.weights != "w4":
            return self.rounded
        # The writer rounds to 8 or 7 bits of its own.
        return {**round_weights(self.graph, self.weights), **self.rounded}


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


def _as_a_whole(graph: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """Constants of MatMul with one scale: stacks of matrices, and what stands on the left.

    Integer kernels take a scale for each column of a single matrix on the right, and none else; the
    writer would give a stack one for each row.
    """
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    found: dict[str, list[dict[str, Any]]] = {}
    for node in graph.graph.node:
        if node.op_type != "MatMul":
            continue
        for at, name in enumerate(node.input):
            if name in constants and (at == 0 or len(constants[name].dims) > 2):  # noqa: PLR2004
                found[name] = [{"symmetric": True}]
    return found


def _outputs_of_their_own(
    graph: onnx.ModelProto, ranges: Mapping[str, Range]
) -> dict[str, list[dict[str, Any]]]:
    """Ranges of outputs that a Relu or Clip reads too: the writer would give them that node's."""
    rectified = {node.input[0] for node in graph.graph.node if node.op_type in RECTIFIERS}
    names = [output.name for output in graph.graph.output]
    return _overrides({one: ranges[one] for one in names if one in rectified and one in ranges})


def _overrides(ranges: Mapping[str, Range]) -> dict[str, list[dict[str, Any]]]:
    """Ranges as the writer takes them where they are not to be the observed ones."""
    return {
        name: [{"rmin": np.float32(found.low), "rmax": np.float32(found.high)}]
        for name, found in ranges.items()
    }


def _ill_scaled(graph: onnx.ModelProto, known: Collection[str]) -> Iterator[str]:
    """Yield what no runtime could take of the scales that were written, beside those ``known``."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type not in _PAIR or node.input[1] not in constants or node.input[1] in known:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])
        if not (np.isfinite(scale) & (scale > 0) & (scale < _WIDEST_STEP)).all():
            yield f"a step of {node.input[0]} would be {float(np.abs(scale).max()):.3g} wide"
        if scale.size <= 1:
            continue
        axis = attribute_of(node, "axis", 1)
        dims = list(constants[node.input[0]].dims) if node.input[0] in constants else []
        if not -len(dims) <= axis < len(dims) or dims[axis] != scale.size:
            yield f"{scale.size} scales along axis {axis} of {node.input[0]}, which has {dims}"
