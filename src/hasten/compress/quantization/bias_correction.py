"""Bias correction: rounding the weights must not shift what a channel gives on average."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasten.compress.quantization.biased_layers import BiasedLayer, ChannelsOf, biased_layers
from hasten.compress.quantization.rounding import RoundedWeight, Weights, round_weights
from hasten.graph import attribute_of, drop_unused, node_names

if TYPE_CHECKING:
    import onnx

__all__ = ["correct_biases", "correctable_inputs"]

_Floats = npt.NDArray[np.float64]


def correctable_inputs(graph: onnx.ModelProto) -> list[ChannelsOf]:
    """Return the activations whose channel means ``correct_biases`` needs."""
    return list(dict.fromkeys(layer.reads for layer in biased_layers(graph)))


def correct_biases(
    graph: onnx.ModelProto,
    means: Mapping[ChannelsOf, _Floats],
    weights: Weights = "w8",
    rounded: Mapping[str, RoundedWeight] = MappingProxyType({}),
    *,
    float_nodes: Collection[str] = (),
) -> onnx.ModelProto:
    """Return the graph with what int8 weights will add on average taken off the biases.

    With ``w + e`` for the rounded weights, a channel gains ``E[e * x]``, which is ``e`` summed over
    the kernel times the mean input. ``weights`` says how they will be rounded, where ``rounded``
    does not already hold them. ``means`` are of the inputs in the float graph; a node whose mean is
    not given keeps its bias, and so do those of ``float_nodes``, whose weights are not rounded. The
    layers are those of ``biased_layers``: the bias of a product may be an Add behind it.
    Where a convolution pads with zeros, at the edges, this is an approximation.

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
    ICCV 2019 (arXiv 1906.04721), section 4.2, with means from calibration samples.
    """
    from onnx import numpy_helper

    corrected = type(graph)()
    corrected.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in corrected.graph.initializer}
    rounded = {**round_weights(graph, weights), **rounded}
    named = zip(corrected.graph.node, node_names(graph), strict=True)
    exact = {node.output[0] for node, label in named if label in float_nodes}
    for number, layer in enumerate(biased_layers(corrected)):
        node, mean = layer.node, means.get(layer.reads)
        levels = rounded.get(node.input[1])
        if node.output[0] in exact or mean is None or levels is None:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        shift = _mean_error(node, np.asarray(levels.values, np.float64) - weight, mean)
        bias = numpy_helper.to_array(constants[layer.bias]) if layer.bias else 0.0
        values = (np.asarray(bias, np.float64) - shift).astype(np.float32)
        # A bias of its own: the old one may be shared with another node.
        name = f"{layer.holder.output[0]}_bias_{number}"
        corrected.graph.initializer.append(numpy_helper.from_array(values, name))
        _hold(layer, name)
    drop_unused(corrected.graph)
    return corrected


def _hold(layer: BiasedLayer, name: str) -> None:
    """Let the layer add this constant."""
    inputs = layer.holder.input
    inputs.extend([""] * (layer.at + 1 - len(inputs)))
    inputs[layer.at] = name


def _mean_error(node: onnx.NodeProto, error: npt.NDArray[Any], mean: _Floats) -> _Floats:
    """Return what errors of the weights add to each output channel on average."""
    if node.op_type in {"Gemm", "MatMul"}:
        rows = error if attribute_of(node, "transB", 0) else error.T
        return np.asarray(rows @ mean)
    groups = attribute_of(node, "group", 1)
    # Summed over the kernel: a mean is the same wherever it stands.
    summed = error.reshape(*error.shape[:2], -1).sum(axis=2)
    if node.op_type == "Conv":  # [out, in / groups]
        by_group = mean.reshape(groups, -1).repeat(error.shape[0] // groups, axis=0)
        return np.asarray((summed * by_group).sum(axis=1), np.float64)
    # [in, out / groups]; with strides each input reaches only that share of the outputs.
    strides = math.prod(attribute_of(node, "strides", [1]))
    by_input = (summed * mean[:, np.newaxis]).reshape(groups, -1, error.shape[1])
    return np.asarray(by_input.sum(axis=1).reshape(-1) / strides, np.float64)
