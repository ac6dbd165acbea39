"""A node of the ONNX graph as the operators' lowerings read it, with static shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hasten.graph.operators import SHAPED_AS_FIRST, node_label
from hasten.runtimes.litert.lowering.unsupported import Unsupported

if TYPE_CHECKING:
    import onnx

__all__ = ["Node", "OutputSpec", "infer_outputs"]

#: Larger constants are no shapes, axes or sizes, which are all that inference asks for.
_MAX_INFERENCE_DATA = 4096


@dataclass(frozen=True)
class OutputSpec:
    """Dtype and shape of one output, in the order of axes that ONNX gives them."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(eq=False)
class Node:
    """``inputs`` and ``outputs`` are names; one that is left out is the empty string."""

    proto: onnx.NodeProto
    opset: int
    specs: list[OutputSpec] = field(default_factory=list)

    @property
    def op(self) -> str:
        """Type of the operator, such as ``Conv``."""
        return str(self.proto.op_type)

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return node_label(self.proto)

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""
        return list(self.proto.input)

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return list(self.proto.output)

    def input(self, at: int) -> str:
        """Name of an input, empty where the node leaves it out."""
        return self.inputs[at] if at < len(self.inputs) else ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.specs[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the first output."""
        return self.specs[0].dtype

    def attribute(self, name: str, default: Any = None) -> Any:
        """Value of an attribute: a number, text, list, TensorProto or GraphProto."""
        from onnx import helper

        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default


def infer_outputs(
    node: onnx.NodeProto,
    opset: int,
    inputs: dict[str, tuple[np.dtype[Any], tuple[int, ...]]],
    data: dict[str, np.ndarray],
) -> list[OutputSpec]:
    """Infer dtype and shape of each output from those of the inputs and the constants among them.

    Raises Unsupported where a dimension depends on data that is not constant.
    """
    from onnx import defs, helper, numpy_helper, shape_inference

    types = {
        name: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), shape)
        for name, (dtype, shape) in inputs.items()
    }
    constants = {
        name: numpy_helper.from_array(value, name)
        for name, value in data.items()
        if value.size <= _MAX_INFERENCE_DATA
    }
    if node.op_type in SHAPED_AS_FIRST:
        return [OutputSpec(*inputs[node.input[0]])]
    try:
        schema = defs.get_schema(node.op_type, opset, node.domain)
        found = shape_inference.infer_node_outputs(
            schema, node, types, constants, opset_imports=[helper.make_opsetid("", opset)]
        )
    except (shape_inference.InferenceError, defs.SchemaError, RuntimeError, ValueError) as error:
        raise Unsupported(f"its shape cannot be inferred: {' '.join(str(error).split())}") from None
    return [_spec(found.get(name), name) for name in node.output if name]


def _spec(inferred: onnx.TypeProto | None, name: str) -> OutputSpec:
    from onnx import helper

    if inferred is None or not inferred.HasField("tensor_type"):
        raise Unsupported(f"the shape of {name} cannot be inferred")
    kind = inferred.tensor_type
    if not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in kind.shape.dim):
        raise Unsupported(f"the shape of {name} depends on data")
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return OutputSpec(dtype, tuple(int(dim.dim_value) for dim in kind.shape.dim))
