"""What a graph holds as constants: by name, as arrays, and those that nothing reads any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hasten.graph.operators import with_subgraphs

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["FLOAT", "constants_of", "drop_unused", "initializer_arrays"]

#: TensorProto.FLOAT, without importing onnx.
FLOAT = 1


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the constant tensors of a graph by name: initializers, and values of Constant."""
    made = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in graph.initializer}


def initializer_arrays(graph: onnx.GraphProto) -> dict[str, npt.NDArray[Any]]:
    """Return the initializers of a graph as arrays, by name."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the initializers that no node reads and that are no output, in place."""
    scopes = list(with_subgraphs(graph))
    used = {name for scope in scopes for node in scope.node for name in node.input}
    used.update(output.name for scope in scopes for output in getattr(scope, "output", ()))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
