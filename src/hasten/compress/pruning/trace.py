"""Following channels through a graph: every tensor's axes, from its constants to its outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from hasten.compress.pruning.channels import Channels, Layout, Untraceable
from hasten.compress.pruning.operators import OPERATORS
from hasten.errors import RefusedError, one_line
from hasten.graph import constant_arrays
from hasten.graph.operators import control_flow, is_default_domain

if TYPE_CHECKING:
    import onnx

__all__ = ["Shape", "Trace", "trace_channels"]

#: Sizes of a tensor; a text names a free one, None is one that is not known.
Shape: TypeAlias = tuple[int | str | None, ...]


@dataclass
class Trace:
    """What is known of the tensors of a graph so far."""

    graph: onnx.ModelProto
    opset: int
    shapes: dict[str, Shape]
    constants: dict[str, onnx.TensorProto]
    channels: Channels = field(default_factory=Channels)
    layouts: dict[str, Layout] = field(default_factory=dict)
    #: Constants, and what transposes them: tensors that can be weights.
    weights: set[str] = field(default_factory=set)
    #: Nodes that were not followed: their channels stay.
    opaque: list[onnx.NodeProto] = field(default_factory=list)

    def shape(self, name: str) -> Shape:
        """Return the shape of a tensor; raises Untraceable where not even its rank is known."""
        if name not in self.shapes:
            raise Untraceable
        return self.shapes[name]

    def layout(self, name: str) -> Layout:
        """Return the channels along each axis of a tensor; raises Untraceable as ``shape`` does."""
        if name in self.constants:
            return self.channels.of(name, tuple(self.constants[name].dims))
        rank = len(self.shape(name))
        found = self.layouts.get(name, (None,) * rank)
        if len(found) != rank:
            raise Untraceable
        return found

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a constant; raises Untraceable where they are computed."""
        from onnx import numpy_helper

        if name not in self.constants:
            raise Untraceable
        return numpy_helper.to_array(self.constants[name])

    def freeze(self, name: str) -> None:
        """Say that all channels of a tensor must stay."""
        if name in self.constants or name in self.layouts:
            for ids in self.layout(name):
                self.channels.freeze(ids)


def trace_channels(graph: onnx.ModelProto) -> Trace:
    """Follow the channels of a graph.

    Where an operator is not known, or does something with channels that is not followed, these
    stay; so do those of the graph's inputs and outputs. Raises RefusedError where the graph holds
    control flow, or ONNX cannot infer its shapes.
    """
    branches = control_flow(graph)
    if branches:
        raise RefusedError(
            f"pruning channels takes no control flow or sequences: {', '.join(branches[:3])}"
        )
    prepared = _constants_as_initializers(graph)
    trace = Trace(
        prepared,
        max(
            (one.version for one in graph.opset_import if is_default_domain(one.domain)), default=1
        ),
        _shapes(prepared),
        {tensor.name: tensor for tensor in prepared.graph.initializer},
    )
    trace.weights.update(trace.constants)
    for node in prepared.graph.node:
        _follow(trace, node)
    for output in prepared.graph.output:
        trace.freeze(output.name)
    return trace


def _follow(trace: Trace, node: onnx.NodeProto) -> None:
    operator = OPERATORS.get(node.op_type) if is_default_domain(node.domain) else None
    try:
        if operator is None:
            raise Untraceable
        layout = operator(trace, node)
    except Untraceable:
        trace.opaque.append(node)
        for name in node.input:
            trace.freeze(name)
        return
    trace.layouts.update(zip(node.output, layout, strict=False))


def _constants_as_initializers(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose constants are all initializers, which have a name."""
    from onnx import numpy_helper

    copy = type(graph)()
    copy.CopyFrom(graph)
    arrays = constant_arrays(copy.graph)
    kept = []
    for node in copy.graph.node:
        is_constant = node.op_type == "Constant" and is_default_domain(node.domain)
        if is_constant and node.output[0] in arrays:
            name = node.output[0]
            copy.graph.initializer.append(numpy_helper.from_array(arrays[name], name))
        else:
            kept.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def _shapes(graph: onnx.ModelProto) -> dict[str, Shape]:
    from onnx import shape_inference

    try:
        inferred = shape_inference.infer_shapes(graph, data_prop=True).graph
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise RefusedError(f"following channels: {one_line(error)}") from error
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    shapes: dict[str, Shape] = {
        value.name: tuple(_dim(dim) for dim in value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in inferred.initializer})
    return shapes


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return dim.dim_param or None
