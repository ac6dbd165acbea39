"""A Relu or Clip behind what is quantized: the writer takes it out, since a range clips as well.

Said here once, for all that have to agree with the writer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hasten.compress.quantization.calibration import Range
from hasten.graph import attribute_of, constant_arrays

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["RECTIFIERS", "clips_to_keep", "rectified", "removed_by_writer"]

#: The QDQ writer takes these out where they follow what it quantizes.
RECTIFIERS = frozenset({"Relu", "Clip"})


def removed_by_writer(graph: onnx.ModelProto) -> dict[str, str]:
    """Tensors that only a Relu or Clip reads, and its output: in the order of the graph.

    The writer takes that node out and quantizes its output alone, since a quantized range clips
    just as well, whether its levels are unsigned or signed.
    """
    readers = Counter(name for node in graph.graph.node for name in node.input)
    produced = {name for node in graph.graph.node for name in node.output}
    outputs = {output.name for output in graph.graph.output}
    kept = {node.output[0] for node in clips_to_keep(graph)}
    return {
        node.input[0]: node.output[0]
        for node in graph.graph.node
        if node.op_type in RECTIFIERS
        and readers[node.input[0]] == 1
        and node.input[0] in produced - outputs
        and node.output[0] not in kept
    }


def clips_to_keep(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Clips that no quantized range stands in for: it would hold zero, and they may not."""
    constants = constant_arrays(graph.graph)
    clips = [node for node in graph.graph.node if node.op_type == "Clip"]
    return [node for node in clips if not _holds_zero(node, constants)]


def rectified(graph: onnx.ModelProto) -> dict[str, Range]:
    """Tensors whose range stands in for the Relu or Clip before them, and what that lets pass."""
    constants = constant_arrays(graph.graph)
    removed = removed_by_writer(graph).items()
    made = {node.output[0]: node for node in graph.graph.node if node.op_type in RECTIFIERS}
    bounds = {output: _bounds(made[output], constants) for _, output in removed}
    return {name: found for name, found in bounds.items() if found is not None}


def _holds_zero(clip: onnx.NodeProto, constants: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether the bounds are known, and zero is within."""
    bounds = _bounds(clip, constants)
    return bounds is not None and bounds.low <= 0.0 <= bounds.high


def _bounds(rectifier: onnx.NodeProto, constants: Mapping[str, npt.NDArray[Any]]) -> Range | None:
    """What a Relu or Clip lets pass; a Clip's are attributes before opset 11, None if computed."""
    if rectifier.op_type == "Relu":
        return Range(0.0, math.inf)
    bounds = [attribute_of(rectifier, "min", -math.inf), attribute_of(rectifier, "max", math.inf)]
    for at, name in enumerate(rectifier.input[1:]):
        if name and name not in constants:
            return None
        if name:
            bounds[at] = constants[name].item()
    return Range(*bounds)
