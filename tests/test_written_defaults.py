"""A default that is written out changes nothing: neither a step, nor a pass, nor the lowering."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, shape_inference

from hasten.compress import Context, DynamicInt8, Equalize, Sparsify, apply_step
from hasten.compress.activations.layer_inputs import has_moments, patches
from hasten.compress.pruning.allocation import most_important, uniform
from hasten.compress.pruning.groups import channel_map
from hasten.compress.pruning.importance import importances
from hasten.compress.pruning.removal import pruned
from hasten.compress.quantization.bias_correction import correct_biases, correctable_inputs
from hasten.compress.quantization.calibration import Range
from hasten.compress.quantization.masks import masked_tensors
from hasten.compress.quantization.qdq_writer import quantized
from hasten.compress.quantization.weight_only import with_integer_weights
from hasten.compress.sparsify import masks
from hasten.errors import RefusedError
from hasten.graph import Model, blocks, model_from_proto
from hasten.graph.batch_norm import fold_batch_norms
from hasten.runtimes.litert.lowering import lower_graph
from int8_net import net as int8_net
from masked_nets import FORMS, attention
from nets import conv_net
from onnx_models import conv_bn, model, value, weight
from prunable_nets import HANDMADE
from rescalable_nets import NETS
from written_defaults import SPELLINGS, left_out, written_out

#: What something came to, in a form in which equal things are equal.
Outcome = bytes | str


def windows() -> onnx.ModelProto:
    """Convolutions, transposed ones and pools, and a linear layer on tokens."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "conv"),
        helper.make_node("MaxPool", ["c"], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["m", "w2"], ["d"], "deconv"),
        helper.make_node("AveragePool", ["d"], ["a"], "mean", kernel_shape=[2, 2]),
        helper.make_node("MatMul", ["a", "w3"], ["p"], "product"),
        helper.make_node("Add", ["p", "b3"], ["y"], "bias"),
    ]
    weights = [weight("w1", 8, 3, 3, 3), weight("b1", 8), weight("w2", 8, 6, 3, 3)]
    weights += [weight("w3", 6, 5), weight("b3", 5)]
    return model(nodes, [value("x", ["n", 3, 12, 12])], [value("y", ["n", 6, 6, 5])], weights)


def _graph_of(make: Callable[[], Model]) -> onnx.ModelProto:
    return make().graph


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    **{name: partial(_graph_of, make) for name, make in HANDMADE.items()},
    **{f"{name} to rescale": partial(_graph_of, make) for name, make in NETS.items()},
    "masked": partial(_graph_of, partial(attention, FORMS["scaled by -1e4"])),
    "int8 net": partial(_graph_of, int8_net),
    "conv net": conv_net,
    "batch norm": conv_bn,
    "windows": windows,
}


def drawn(name: str) -> np.random.Generator:
    """Numbers that depend on a tensor's name alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def ranges(graph: onnx.ModelProto) -> Mapping[str, Range]:
    named = {name for node in graph.graph.node for name in (*node.input, *node.output) if name}
    return {name: Range(-1 - drawn(name).random(), 1 + drawn(name).random()) for name in named}


def corrected(graph: onnx.ModelProto) -> onnx.ModelProto:
    inferred = shape_inference.infer_shapes(graph).graph
    shapes = {
        one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in (*inferred.value_info, *inferred.input)
    }
    reads = correctable_inputs(graph)
    means = {of: drawn(of.tensor).normal(size=shapes[of.tensor][of.axis]) for of in reads}
    return correct_biases(graph, means)


def without_channels(graph: onnx.ModelProto) -> onnx.ModelProto:
    found = channel_map(graph)
    made = model_from_proto(graph, "net")
    values = importances(made, found.groups, "magnitude", Context(Path()))
    counts = uniform({group.name: group.size for group in found.groups}, 0.5, 4)
    return pruned(found, {name: most_important(values[name], one) for name, one in counts.items()})


def taken(graph: onnx.ModelProto) -> str:
    """What layers would multiply their weights with."""
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    layers = [node for node in graph.graph.node if has_moments(node, constants)]
    found = []
    for node in layers:
        shape = list(constants[node.input[1]].dims)
        conv = node.op_type == "Conv"
        columns = shape[0] if node.op_type == "MatMul" else shape[1]
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        size = (2, columns * groups, 9, 9) if conv else (2, columns)
        found.append(patches(node, drawn(node.output[0]).normal(size=size), shape).tobytes())
    return repr(found)


def stepped(step: DynamicInt8 | Equalize, folder: Path, graph: onnx.ModelProto) -> onnx.ModelProto:
    return apply_step(model_from_proto(graph, "net"), step, Context(folder)).graph


def outcome(work: Callable[[onnx.ModelProto], object], graph: onnx.ModelProto) -> Outcome:
    try:
        found = work(graph)
    except RefusedError as refused:
        return f"refused: {refused}"
    if isinstance(found, onnx.ModelProto):
        said: bytes = left_out(found).SerializeToString(deterministic=True)
        return said
    return found if isinstance(found, bytes) else repr(found)


@pytest.mark.parametrize("name", GRAPHS)
def test_steps_and_passes_make_the_same_of_both_spellings(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    works: dict[str, Callable[[onnx.ModelProto], object]] = {
        "bias correction": corrected,
        "static int8": lambda one: quantized(one, ranges(one)).graph,
        "static int8 with 4 bits": lambda one: quantized(one, ranges(one), weights="w4").graph,
        "dynamic int8": partial(stepped, DynamicInt8(), tmp_path),
        "weight int8": lambda one: with_integer_weights(one, "w8"),
        "equalization": partial(stepped, Equalize(), tmp_path),
        "batch norms": fold_batch_norms,
        "sparsity": lambda one: [mask.tobytes() for mask in masks(one, Sparsify()).values()],
        "channels": without_channels,
        "layer inputs": taken,
        "masks": lambda one: sorted(masked_tensors(one)),
        "blocks": blocks,
        "lowering": lambda one: lower_graph(one).content,
    }
    for what, work in works.items():
        want = outcome(work, graph)
        for spelling, spelt in SPELLINGS.items():
            assert outcome(work, spelt(graph)) == want, f"{what}, {spelling}"


def test_the_spellings_are_apart_and_lead_back_to_one_another() -> None:
    graph = windows()
    assert len(written_out(graph).graph.node[0].attribute) == 5
    assert len(left_out(graph).graph.node[0].attribute) == 0
    assert left_out(written_out(graph)) == left_out(graph)
