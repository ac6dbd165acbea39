"""Tensors inside a graph, made visible as outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from hasten.graph.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from hasten.graph.model import Model

__all__ = ["with_outputs"]


def with_outputs(model: Model, names: Iterable[str]) -> Model:
    """Return the model with these tensors as further outputs.

    Raises KeyError with the first that it does not compute, or whose dtype ONNX cannot infer.
    """
    from onnx import ModelProto, helper, shape_inference

    graph = ModelProto()
    graph.CopyFrom(model.graph)
    inferred = shape_inference.infer_shapes(model.graph).graph
    kinds = {one.name: one.type.tensor_type.elem_type for one in inferred.value_info}
    made = {name for node in graph.graph.node for name in node.output}
    have = {output.name for output in graph.graph.output}
    specs = []
    for name in names:
        if name in have:
            continue
        if name not in made or not kinds.get(name):
            raise KeyError(name)
        graph.graph.output.append(helper.make_tensor_value_info(name, kinds[name], None))
        specs.append(TensorSpec(name, helper.tensor_dtype_to_np_dtype(kinds[name]).name, ()))
    signature = Signature(model.signature.inputs, (*model.signature.outputs, *specs))
    return replace(model, content=graph, signature=signature)
