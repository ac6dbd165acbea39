"""Batch norms folded into the weights before them, as they have to be before these are rounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasten.graph import attribute_of, drop_unused

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["fold_batch_norms", "without_batch_norms"]

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


def without_batch_norms(model: Model) -> Model:
    """Return the model with its batch norms folded; itself where there is nothing to fold."""
    folded = fold_batch_norms(model.graph)
    return model if folded is model.graph else replace(model, content=folded)


def fold_batch_norms(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with each batch norm in the convolution or matrix product before it.

    The function stays the same. A batch norm after something else, or after a result that is read
    elsewhere too, stays where it is; a graph without any is returned itself.
    """
    readers = Counter(name for node in graph.graph.node for name in node.input)
    readers.update(output.name for output in graph.graph.output)
    folded = type(graph)()
    folded.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in folded.graph.initializer}
    makers = {name: node for node in folded.graph.node for name in node.output}
    for norm in [node for node in folded.graph.node if node.op_type == "BatchNormalization"]:
        linear = makers.get(norm.input[0])
        if linear is None or readers[norm.input[0]] != 1 or not _foldable(linear, norm, constants):
            continue
        _fold(folded.graph, linear, norm, constants)
        makers[norm.output[0]] = linear
        folded.graph.node.remove(norm)
    if len(folded.graph.node) == len(graph.graph.node):
        return graph
    drop_unused(folded.graph)
    return folded


def _foldable(
    linear: onnx.NodeProto, norm: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> bool:
    wanted = [*norm.input[1:], *(name for name in linear.input[1:] if name)]
    return (
        linear.op_type in _LINEAR
        and all(attribute_of(linear, name, 1.0) == 1.0 for name in ("alpha", "beta"))
        and not attribute_of(norm, "training_mode", 0)
        and all(name in constants for name in wanted)
        and len(norm.output) == 1
    )


def _fold(
    graph: onnx.GraphProto,
    linear: onnx.NodeProto,
    norm: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
) -> None:
    """Scale and shift the output channels of a linear node; its output becomes the norm's."""
    from onnx import numpy_helper

    def values(name: str) -> npt.NDArray[np.float64]:
        return np.asarray(numpy_helper.to_array(constants[name]), np.float64)

    gamma, beta, mean, variance = (values(name) for name in norm.input[1:])
    factor = gamma / np.sqrt(variance + attribute_of(norm, "epsilon", 1e-5))
    has_bias = len(linear.input) > 2 and linear.input[2] != ""  # noqa: PLR2004 - the third input
    bias = values(linear.input[2]) if has_bias else np.zeros(1)
    made = {
        f"{norm.output[0]}_weight": _scaled(linear, values(linear.input[1]), factor),
        f"{norm.output[0]}_bias": (bias - mean) * factor + beta,
    }
    # Constants of their own: the old ones may be shared with other nodes.
    for name, value in made.items():
        constants[name] = numpy_helper.from_array(value.astype(np.float32), name)
        graph.initializer.append(constants[name])
    linear.input[1:] = list(made)
    linear.output[0] = norm.output[0]


def _scaled(
    linear: onnx.NodeProto, weight: npt.NDArray[Any], factor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    if linear.op_type == "Gemm":
        scaled = weight * (factor[:, None] if attribute_of(linear, "transB", 0) else factor)
    elif linear.op_type == "Conv":
        scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    else:  # [in, out / groups, ...], and each group of inputs has outputs of its own
        groups = attribute_of(linear, "group", 1)
        by_group = factor.reshape(groups, -1).repeat(weight.shape[0] // groups, axis=0)
        scaled = weight * by_group.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    return np.asarray(scaled, np.float64)
