"""Quantized tensors: what QuantizeLinear and DequantizeLinear mean for how a value is stored.

TFLite computes in signed integers. A graph with unsigned ones is shifted, exactly: stored values
and zero points are 128 less, or 32,768 less for 16 bits.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import helper, numpy_helper

from hasten.runtimes.litert.lowering.program import Quantization

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx

__all__ = ["PASSING", "Target", "find_targets", "shifted"]

#: Unsigned dtypes, the signed ones they are stored in, and what is taken off.
_SHIFTS: dict[np.dtype[Any], tuple[np.dtype[Any], int]] = {
    np.dtype(np.uint8): (np.dtype(np.int8), 128),
    np.dtype(np.uint16): (np.dtype(np.int16), 32768),
}

#: Operators that move elements of their first operand, or pick among them: what follows them holds
#: for what they read.
PASSING = frozenset(
    {
        "CenterCropPad",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "MaxPool",
        "Pad",
        "ReduceMax",
        "ReduceMin",
        "Relu",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    }
)

#: The same of operators that take elements from all their operands.
_PASSING_ALL = frozenset({"Concat", "Max", "Min"})


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
    constants: dict[str, np.ndarray],
    targets: dict[str, Target],
) -> Target | None:
    passing = reader.op_type in _PASSING_ALL
    if not passing and reader.input[0] != name:
        return None
    if passing or reader.op_type in PASSING:
        forms = [targets.get(output) for output in reader.output if output]
        first = forms[0]
        alike = first is not None and all(_alike(first, form) for form in forms[1:])
        return first if alike else None
    given = [constants.get(one) for one in reader.input[1:] if one]
    if reader.op_type != "QuantizeLinear" or not given or any(one is None for one in given):
        return None
    arrays = [one for one in given if one is not None]
    if arrays[0].size != 1:
        return None
    point = arrays[1] if len(arrays) > 1 else np.array(0, _default_dtype(reader))
    return shifted(arrays[0], point)


def _default_dtype(node: onnx.NodeProto) -> np.dtype[Any]:
    """What a QuantizeLinear without a zero point writes."""
    given = next((one.i for one in node.attribute if one.name == "output_dtype"), 0)
    return np.dtype(helper.tensor_dtype_to_np_dtype(given)) if given else np.dtype(np.uint8)


def _alike(one: Target, other: Target | None) -> bool:
    return (
        other is not None and one.dtype == other.dtype and one.quantization.same(other.quantization)
    )


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    made = {
        node.output[0]: _number(attribute)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name in {"value", "value_float", "value_int"}
    }
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in _small(graph)}
    return made | given


def _number(attribute: onnx.AttributeProto) -> np.ndarray:
    if attribute.name == "value":
        return numpy_helper.to_array(attribute.t)
    if attribute.name == "value_int":
        return np.array(attribute.i, np.int64)
    return np.array(attribute.f, np.float32)


def _small(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Constants that may be one scale or zero point: large ones are not unpacked for it."""
    return (tensor for tensor in graph.initializer if int(np.prod(tensor.dims)) == 1)
