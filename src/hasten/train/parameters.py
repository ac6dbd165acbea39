"""Which constants of a graph are weights that training may change, and which only say how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.graph import FLOAT, constants_of

if TYPE_CHECKING:
    import onnx

__all__ = ["running_statistics", "trainable_weights"]


#: Which inputs of which operator hold weights.
_WEIGHTS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Einsum": (0, 1),
    "FakeQuantize": (2,),
    "FakeQuantizeBias": (0, 1),
    "FakeQuantizeWeight": (0,),
    "Gather": (0,),
    "Gemm": (0, 1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
}
#: Biases and scales that exporters write apart, where they lie behind a weight: before the first
#: one stands the normalisation of the input, which is not learnt.
_BEHIND_WEIGHTS = frozenset({"Add", "Mul"})


def trainable_weights(graph: onnx.GraphProto) -> list[str]:
    """Return the float32 constants that are weights or biases, in the order of their use.

    Constants with one value that are added or multiplied are part of a formula and stay.
    """
    known = constants_of(graph)
    floats = {name: tensor for name, tensor in known.items() if tensor.data_type == FLOAT}
    found: dict[str, None] = {}
    behind: set[str] = set()
    for node in graph.node:
        places = _WEIGHTS.get(node.op_type, ())
        weights = [node.input[at] for at in places if at < len(node.input)]
        if node.op_type in _BEHIND_WEIGHTS and behind.intersection(node.input):
            weights = [name for name in node.input if name in floats and _size(floats[name]) > 1]
        weights = [name for name in weights if name in floats]
        found.update(dict.fromkeys(weights))
        if weights or behind.intersection(node.input):
            behind.update(node.output)
    return list(found)


def running_statistics(graph: onnx.GraphProto) -> list[str]:
    """Return the constants that training moves without a gradient, in the order of their use.

    They are means and variances of batch norms, and observed ranges.
    """
    known = constants_of(graph)
    found: dict[str, None] = {}
    for node in graph.node:
        names: list[str] = []
        if node.op_type == "BatchNormalization":
            names = list(node.input[3:5])
        elif node.op_type == "FakeQuantize":
            names = [node.input[1]]
        found.update(dict.fromkeys(name for name in names if name in known))
    return list(found)


def _size(tensor: onnx.TensorProto) -> int:
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size
