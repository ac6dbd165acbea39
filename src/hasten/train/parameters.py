"""Which constants of a graph are weights that training may change, and which only say how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.graph import FLOAT, ParameterNames, constants_of, parameter_names

if TYPE_CHECKING:
    import onnx

__all__ = ["running_statistics", "trainable_weights"]


#: Which inputs of which operator hold weights.
_WEIGHTS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Einsum": (0, 1),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "Gemm": (0, 1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
}
#: Biases and scales that exporters write apart, where they lie behind a weight: before the first
#: one stands the normalisation of the input, which is not learnt.
_BEHIND_WEIGHTS = frozenset({"Add", "Mul"})
#: A weight read through one of these is a weight.
_LAYOUTS = frozenset(
    {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)


def trainable_weights(graph: onnx.ModelProto) -> list[str]:
    """Return the float32 constants that are weights or biases, in the order of their use.

    What the graph says of its parameters holds (``hasten.graph.parameter_names``). Of others:
    constants with one value that are added or multiplied are part of a formula and stay.
    """
    known = constants_of(graph.graph)
    names = parameter_names(graph) or ParameterNames()
    trained, fixed = set(names.trained), set(names.fixed)
    used = {name for node in graph.graph.node for name in node.input}
    used.update(output.name for output in graph.graph.output)
    said = [
        name
        for name, tensor in known.items()
        if name in trained and name in used and tensor.data_type == FLOAT
    ]
    seeming = [name for name in _seeming_weights(graph.graph) if name not in fixed]
    order = {name: at for at, name in enumerate(_in_order_of_use(graph.graph))}
    return sorted({*said, *seeming}, key=lambda name: order.get(name, len(order)))


def running_statistics(graph: onnx.ModelProto) -> list[str]:
    """Return the constants that training moves without a gradient, in the order of their use.

    They are means and variances of batch norms, and observed ranges.
    """
    known = constants_of(graph.graph)
    found: dict[str, None] = {}
    for node in graph.graph.node:
        names: list[str] = []
        if node.op_type == "BatchNormalization":
            names = list(node.input[3:5])
        elif node.op_type == "FakeQuantize":
            names = list(node.input[3:4])
        found.update(dict.fromkeys(name for name in names if name in known))
    return list(found)


def _seeming_weights(graph: onnx.GraphProto) -> list[str]:
    """Return the constants that stand where weights and biases do."""
    known = constants_of(graph)
    floats = {name: tensor for name, tensor in known.items() if tensor.data_type == FLOAT}
    source: dict[str, str] = {name: name for name in floats}
    found: dict[str, None] = {}
    behind: set[str] = set()
    for node in graph.node:
        if node.op_type in _LAYOUTS and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
            continue
        places = _WEIGHTS.get(node.op_type, ())
        weights = [node.input[at] for at in places if at < len(node.input)]
        if node.op_type in _BEHIND_WEIGHTS and behind.intersection(node.input):
            read = [name for name in node.input if name in source]
            weights = [name for name in read if _size(floats[source[name]]) > 1]
        weights = [source[name] for name in weights if name in source]
        found.update(dict.fromkeys(weights))
        if weights or behind.intersection(node.input):
            behind.update(node.output)
    return list(found)


def _in_order_of_use(graph: onnx.GraphProto) -> list[str]:
    return list(dict.fromkeys(name for node in graph.node for name in node.input))


def _size(tensor: onnx.TensorProto) -> int:
    size = 1
    for dim in tensor.dims:
        size *= dim
    return size
