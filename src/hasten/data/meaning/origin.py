"""Where an output comes from: the operator that made it, past those that only move values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hasten.graph import constants_of

if TYPE_CHECKING:
    import onnx

__all__ = ["Origin", "origins"]

#: Operators that move values, or round them, and make no new ones.
_TRANSPARENT = frozenset(
    {
        "Cast",
        "DequantizeLinear",
        "Dropout",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
#: Sums of products with weights: what is behind them has no bounds and no shape of its own.
_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_NORMS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_SUPPRESSION = frozenset({"NonMaxSuppression", "EfficientNMS_TRT", "BatchedNMS_TRT", "NMSRotated"})
#: An unnormalised axis is divided by its length: how exporters write x / ||x||.
_LENGTHS = frozenset({"ReduceL2", "Sqrt", "LpNormalization"})


@dataclass(frozen=True)
class Origin:
    """What is known of how an output is made.

    ``operator`` is the last that makes values, ``linear`` whether it is a layer's product, with its
    bias, ``resized`` whether that was scaled to another size afterwards. ``joined`` are the lengths
    of the parts that a Concat put together, where they are known. The others say what there is
    anywhere before the output: non-maximum suppression, recurrence, a division by a length.
    """

    operator: str = ""
    linear: bool = False
    resized: bool = False
    normalised: bool = False
    joined: tuple[int, ...] = ()
    suppressed: bool = False
    recurrent: bool = False


def origins(graph: onnx.ModelProto) -> dict[str, Origin]:
    """Return the origin of each output of a graph, by name."""
    makers = {name: node for node in graph.graph.node for name in node.output if name}
    constants = frozenset(constants_of(graph.graph))
    shapes = _shapes(graph)
    return {
        output.name: _origin(output.name, makers, constants, shapes)
        for output in graph.graph.output
    }


def _origin(
    name: str,
    makers: Mapping[str, onnx.NodeProto],
    constants: frozenset[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> Origin:
    kinds = _kinds_before(name, makers)
    node = _maker(name, makers)
    resized = node is not None and node.op_type in {"Resize", "Upsample"}
    if node is not None and resized:
        node = _maker(node.input[0], makers)
    before = Origin(
        resized=resized,
        suppressed=not _SUPPRESSION.isdisjoint(kinds),
        recurrent=not _RECURRENT.isdisjoint(kinds),
    )
    if node is None:
        return before
    return replace(
        before,
        operator=node.op_type,
        linear=_is_linear(node, makers, constants),
        normalised=_is_normalised(node, makers),
        joined=_joined(node, shapes) if node.op_type == "Concat" else (),
    )


def _maker(name: str, makers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """Return the node that makes the values of a tensor; None for an input or a constant."""
    node = makers.get(name)
    while node is not None and node.op_type in _TRANSPARENT:
        node = makers.get(node.input[0])
    return node


def _is_linear(
    node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], constants: frozenset[str]
) -> bool:
    if node.op_type in _LINEAR:
        return True
    if node.op_type != "Add" or constants.isdisjoint(node.input):
        return False
    others = [_maker(name, makers) for name in node.input if name not in constants]
    return any(other is not None and other.op_type in _LINEAR for other in others)


def _is_normalised(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a norm ends it: its features have a direction and no scale of their own."""
    if node.op_type in _NORMS or node.op_type == "LpNormalization":
        return True
    if node.op_type != "Div":
        return False
    below = _maker(node.input[1], makers)
    while below is not None and below.op_type in {"Clip", "Max", "Expand", "Add"}:
        below = _maker(below.input[0], makers)
    return below is not None and below.op_type in _LENGTHS


def _joined(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    parts = [shapes.get(name) for name in node.input]
    if any(part is None or not -len(part) <= axis < len(part) for part in parts):
        return ()
    lengths = [part[axis] for part in parts if part is not None]
    return tuple(lengths) if all(length > 0 for length in lengths) else ()


def _kinds_before(name: str, makers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """Return the operators of everything that an output depends on."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.output[0] in seen:
            continue
        seen.add(node.output[0])
        found.add(node.op_type)
        waiting += node.input
    return found


def _shapes(graph: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Known shapes by name; 0 for a dimension that is free."""
    values = (*graph.graph.value_info, *graph.graph.output, *graph.graph.input)
    found = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in values
    }
    found |= {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    return found
