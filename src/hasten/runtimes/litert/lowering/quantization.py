"""Quantized tensors: what QuantizeLinear and DequantizeLinear mean for how a value is stored.

TFLite computes in signed integers. A graph with unsigned ones is shifted, exactly: stored values
and zero points are 128 less, or 32,768 less for 16 bits.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import numpy_helper

from hasten.runtimes.litert.lowering.program import Quantization

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

__all__ = ["PASSING", "Target", "find_targets", "shifted"]

#: Unsigned dtypes, the signed ones they are stored in, and what is taken off.
_SHIFTS: dict[np.dtype[Any], tuple[np.dtype[Any], int]] = {
    np.dtype(np.uint8): (np.dtype(np.int8), 128),
    np.dtype(np.uint16): (np.dtype(np.int16), 32768),
}

#: Operators that move elements and compute nothing: what follows them holds for what they read.
PASSING = frozenset(
    {"Flatten", "Identity", "Relu", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Dropout"}
)


class Target(NamedTuple):
    """The form that a value is to be written in: scale, zero point and stored dtype."""

    quantization: Quantization
    dtype: np.dtype[Any]


def shifted(scale: np.ndarray, zero_point: np.ndarray, axis: int = 0) -> Target:
    """The stored form for these parameters of a Quantize- or DequantizeLinear.

    >>> form = shifted(np.float32(0.5), np.uint8(130))
    >>> form.dtype.name, form.quantization.zero_point.tolist()
    ('int8', [2])
    """
    dtype, offset = _SHIFTS.get(zero_point.dtype, (zero_point.dtype, 0))
    points = zero_point.astype(np.int64).reshape(-1) - offset
    scales = scale.astype(np.float32).reshape(-1)
    if points.size != scales.size:
        points = np.broadcast_to(points, scales.shape).copy()
    return Target(Quantization(scales, points, axis), dtype)


def find_targets(graph: onnx.GraphProto, ordered: Sequence[onnx.NodeProto]) -> dict[str, Target]:
    """Values that are read by QuantizeLinear alone, one scale for all, and the form they get.

    Also those that reach it through operators that compute nothing new on integers.
    """
    constants = _constants(graph)
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {output.name for output in graph.output}
    targets: dict[str, Target] = {}
    for node in reversed(ordered):
        for name in node.output:
            if name in outputs or not readers[name]:
                continue
            found = [_target(reader, name, constants, targets) for reader in readers[name]]
            first = found[0]
            if first is not None and all(_alike(first, other) for other in found[1:]):
                targets[name] = first
    return targets


def _target(
    reader: onnx.NodeProto,
    name: str,
    constants: dict[str, onnx.TensorProto],
    targets: dict[str, Target],
) -> Target | None:
    if reader.input[0] != name:
        return None
    if reader.op_type in PASSING:
        return targets.get(reader.output[0])
    given = [constants.get(one) for one in reader.input[1:]]
    if reader.op_type != "QuantizeLinear" or not given or any(one is None for one in given):
        return None
    arrays = [numpy_helper.to_array(one) for one in given if one is not None]
    if arrays[0].size != 1:
        return None
    return shifted(arrays[0], arrays[1] if len(arrays) > 1 else np.array(0, np.uint8))


def _alike(one: Target, other: Target | None) -> bool:
    return (
        other is not None and one.dtype == other.dtype and one.quantization.same(other.quantization)
    )


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    made = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in graph.initializer}
