"""Bias correction: rounding the weights must not shift what a channel gives on average."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasten.compress.quantization.rounding import RoundedWeight, Weights, round_weights
from hasten.graph import drop_unused, node_names

if TYPE_CHECKING:
    import onnx

__all__ = ["correct_biases", "correctable_inputs"]

_CORRECTED = ("Conv", "Gemm")


def correctable_inputs(graph: onnx.ModelProto) -> list[str]:
    """Names of the activations whose channel means ``correct_biases`` needs."""
    constants = {tensor.name for tensor in graph.graph.initializer}
    return list(
        dict.fromkeys(
            node.input[0]
            for node in graph.graph.node
            if node.op_type in _CORRECTED and node.input[1] in constants
        )
    )


def correct_biases(
    graph: onnx.ModelProto,
    means: Mapping[str, npt.NDArray[np.float64]],
    weights: Weights = "w8",
    rounded: Mapping[str, RoundedWeight] = MappingProxyType({}),
    *,
    float_nodes: Collection[str] = (),
) -> onnx.ModelProto:
    """Return the graph with what int8 weights will add on average taken off the biases.

    With ``w + e`` for the rounded weights, a channel gains ``E[e * x]``, which is ``e`` summed over
    the kernel times the mean input. ``weights`` says how they will be rounded, where ``rounded``
    does not already hold them. ``means`` are of the inputs in the float graph, by tensor name; a
    node whose mean is not given keeps its bias, and so do those of ``float_nodes``, whose weights
    are not rounded.
    Where a convolution pads with zeros, at the edges, this is an approximation.

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
    ICCV 2019 (arXiv 1906.04721), section 4.2, with means from calibration samples.
    """
    from onnx import numpy_helper

    corrected = type(graph)()
    corrected.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in corrected.graph.initializer}
    rounded = {**round_weights(graph, weights), **rounded}
    for at, (node, label) in enumerate(zip(corrected.graph.node, node_names(graph), strict=True)):
        if node.op_type not in _CORRECTED or node.input[1] not in constants:
            continue
        if label in float_nodes:
            continue
        mean = means.get(node.input[0])
        has_bias = len(node.input) > 2 and node.input[2] != ""  # noqa: PLR2004 - the third input
        if mean is None or (has_bias and node.input[2] not in constants):
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        shift = _mean_error(node, weight, mean, rounded.get(node.input[1]))
        if shift is None:
            continue
        bias = numpy_helper.to_array(constants[node.input[2]]) if has_bias else 0.0
        # A bias of its own: the old one may be shared with another node.
        name = f"{node.output[0]}_bias_{at}"
        values = (np.asarray(bias, np.float64) - shift).astype(np.float32)
        corrected.graph.initializer.append(numpy_helper.from_array(values, name))
        del node.input[2:]
        node.input.append(name)
    drop_unused(corrected.graph)
    return corrected


def _mean_error(
    node: onnx.NodeProto,
    weight: npt.NDArray[Any],
    mean: npt.NDArray[np.float64],
    rounded: RoundedWeight | None,
) -> npt.NDArray[np.float64] | None:
    """Return what rounding adds to each output channel on average; None where it is not known."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if rounded is None:
        return None
    error = np.asarray(rounded.values, np.float64) - weight
    if node.op_type == "Gemm":
        scaled = [attributes[key].f for key in ("alpha", "beta") if key in attributes]
        if any(value != 1.0 for value in scaled) or "transA" in attributes:
            return None
        rows = error if "transB" in attributes and attributes["transB"].i else error.T
        return np.asarray(rows @ mean)
    groups = attributes["group"].i if "group" in attributes else 1
    # [out, in / groups], summed over the kernel: a mean is the same wherever it stands.
    summed = error.reshape(*weight.shape[:2], -1).sum(axis=2)
    by_group = mean.reshape(groups, -1).repeat(weight.shape[0] // groups, axis=0)
    return np.asarray((summed * by_group).sum(axis=1), np.float64)
