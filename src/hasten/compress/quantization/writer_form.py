"""Graphs in the form that ONNX Runtime's quantizers take: what they stumble over is respelt.

None of it changes what a graph computes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.step import quiet_quantizer
from hasten.errors import RefusedError, one_line
from hasten.graph import FLOAT, attribute_of, node_names
from hasten.graph.operators import is_default_domain

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["for_writers", "lifted", "quantized_kinds"]

_BIAS = 2


def quantized_kinds() -> set[str]:
    """Operators that the QDQ writer quantizes; the others stay in float."""
    with quiet_quantizer():
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return {*QLinearOpsRegistry, *QDQRegistry}


def lifted(graph: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Lift an older graph to this opset; raises RefusedError where ONNX's converter cannot."""
    from onnx import checker, version_converter

    old = [one.version for one in graph.opset_import if is_default_domain(one.domain)]
    if not old or max(old) >= opset:
        return graph
    try:
        made = version_converter.convert_version(graph, opset)
        checker.check_model(made)
        return made
    except Exception as error:
        raise RefusedError(
            f"it needs opset {opset}, and the graph's {max(old)} cannot be lifted to it:"
            f" {one_line(error)}"
        ) from error


def for_writers(graph: onnx.ModelProto, opset: int = 0) -> onnx.ModelProto:
    """Return a copy of this opset at least that the writers take; it computes the same.

    - Every node has the name that ``hasten.graph.node_names`` calls it by, for the writers tell
      nodes apart by their names.
    - Optional inputs at the end of a node are left out, where they were there by an empty name.
    - The bias of a Gemm is what it adds: times beta, a value for each column where it has them.
    """
    made = type(graph)()
    made.CopyFrom(graph)
    for node, name in zip(made.graph.node, node_names(graph), strict=True):
        node.name = name
        while len(node.input) > 1 and not node.input[-1]:
            del node.input[-1]
    made = lifted(made, opset)
    _plain_biases(made.graph)
    return made


def _plain_biases(graph: onnx.GraphProto) -> None:
    """Give each Gemm the bias that it adds: times beta, and a value for each column if it can be.

    The writer sets beta to 1, and finds scales for the columns alone.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        name = node.input[_BIAS] if node.op_type == "Gemm" and len(node.input) > _BIAS else ""
        if name not in constants or constants[name].data_type != FLOAT:
            continue
        beta = attribute_of(node, "beta", 1.0)
        values = numpy_helper.to_array(constants[name]) * np.float32(beta)
        weight = constants.get(node.input[1])
        if weight is not None:
            values = _by_column(values, weight.dims[0 if attribute_of(node, "transB", 0) else 1])
        if beta == 1 and list(values.shape) == list(constants[name].dims):
            continue
        for attribute in node.attribute:
            if attribute.name == "beta":
                attribute.f = 1.0
        if uses[name] > 1:
            name = node.input[_BIAS] = f"{name}_of_{node.output[0]}"
            graph.initializer.append(type(graph.initializer[0])())
            constants[name] = graph.initializer[-1]
        constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _by_column(values: npt.NDArray[np.float32], columns: int) -> npt.NDArray[np.float32]:
    """Return a bias with one axis, where it is one row or one number; else as it is."""
    row = values.size in {1, columns} and values.shape[-1:] in {(), (1,), (columns,)}
    is_column = values.size > 1 and values.shape[-1] == 1
    return np.broadcast_to(values.reshape(-1), (columns,)) if row and not is_column else values
