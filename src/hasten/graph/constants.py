"""What a graph holds as constants: by name, as arrays, and those that nothing reads any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hasten.graph.operators import with_subgraphs

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["FLOAT", "constant_arrays", "constants_of", "drop_unused", "initializer_arrays"]

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


def constant_arrays(graph: onnx.GraphProto) -> dict[str, npt.NDArray[Any]]:
    """Return all constants of a graph as arrays, by name: initializers, and Constants of any form.

    A Constant says its value as a tensor, a number or a list of numbers.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    kinds = {"value_float": np.float32, "value_int": np.int64}
    found: dict[str, npt.NDArray[Any]] = {}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            value = helper.get_attribute_value(attribute)
            if attribute.name == "value":
                found[node.output[0]] = numpy_helper.to_array(value)
            elif attribute.name.removesuffix("s") in kinds:
                dtype = kinds[attribute.name.removesuffix("s")]
                found[node.output[0]] = np.array(value, dtype)
    return found | initializer_arrays(graph)


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
