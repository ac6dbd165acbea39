"""A weight that is read in several ways becomes several: each way has scales of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from hasten.compress.quantization.rounding import channel_axis
from hasten.compress.quantization.writer_form import quantized_kinds
from hasten.graph import FLOAT

if TYPE_CHECKING:
    import onnx

__all__ = ["with_own_weights"]

#: How a reader wants a weight quantized: along an axis, or as a whole, which is None.
_Way: TypeAlias = int | None


def with_own_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with a copy of a weight for each way that it is quantized; itself if none.

    A tied weight is one tensor that is read by rows here and by columns there, or looked up as an
    embedding and multiplied with. Scales lie along one axis of a tensor, so each way gets a tensor;
    in int8 two are still half of what one was. What computes the same stays the same.
    """
    ways: dict[str, list[_Way]] = {}
    for _, name, way in _uses(graph):
        ways.setdefault(name, [])
        if way not in ways[name]:
            ways[name].append(way)
    tied = {name for name, found in ways.items() if len(found) > 1}
    if not tied:
        return graph
    made = type(graph)()
    made.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    for (node, at), name, way in list(_uses(made)):
        if name not in tied or way == ways[name][0]:
            continue
        copy = f"{name}_{'whole' if way is None else f'by_axis_{way}'}"
        if copy not in constants:
            made.graph.initializer.append(constants[name])
            constants[copy] = made.graph.initializer[-1]
            constants[copy].name = copy
        node.input[at] = copy
    return made


def _uses(graph: onnx.ModelProto) -> Iterator[tuple[tuple[onnx.NodeProto, int], str, _Way]]:
    """Yield each place where what is quantized reads a float constant of two axes or more."""
    kinds = quantized_kinds()
    ranks = {
        tensor.name: len(tensor.dims)
        for tensor in graph.graph.initializer
        if tensor.data_type == FLOAT and len(tensor.dims) > 1
    }
    for node in graph.graph.node:
        if node.op_type not in kinds:
            continue
        axis = channel_axis(node)
        for at, name in enumerate(node.input):
            if name in ranks:
                yield (node, at), name, None if axis is None or at != 1 else axis % ranks[name]
