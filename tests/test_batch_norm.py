from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hasten.graph import (
    ParameterNames,
    model_from_proto,
    parameter_names,
    with_parameter_names,
)
from hasten.graph.batch_norm import fold_batch_norms
from nets import conv_net
from onnx_models import model, run, value, weight

CHANNELS = 6
NODES: dict[str, tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "convolution": ("Conv", {}, (CHANNELS, 4, 3, 3), (2, 4, 5, 5)),
    "depthwise": ("Conv", {"group": CHANNELS}, (CHANNELS, 1, 3, 3), (2, CHANNELS, 5, 5)),
    "transposed": ("ConvTranspose", {"group": 2}, (4, CHANNELS // 2, 3, 3), (2, 4, 5, 5)),
    "product": ("Gemm", {}, (4, CHANNELS), (2, 4)),
    "transposed product": ("Gemm", {"transB": 1}, (CHANNELS, 4), (2, 4)),
}


def normed(kind: str, *, bias: bool = True, also_read: bool = False) -> onnx.ModelProto:
    operator, attributes, shape, x = NODES[kind]
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    outputs = [value("y", None)] + ([value("h", None)] if also_read else [])
    statistics = [weight(name, CHANNELS, seed=seed) for seed, name in enumerate(("g", "s", "m"))]
    variance = np.random.default_rng(9).uniform(0.5, 2.0, CHANNELS).astype(np.float32)
    return model(
        [
            helper.make_node(operator, inputs, ["h"], **attributes),
            helper.make_node("BatchNormalization", ["h", "g", "s", "m", "v"], ["n"]),
            helper.make_node("Relu", ["n"], ["y"]),
        ],
        [value("x", x)],
        outputs,
        [
            weight("w", *shape, seed=5),
            weight("b", CHANNELS, seed=6),
            *statistics,
            numpy_helper.from_array(variance, "v"),
        ],
    )


def outputs(graph: onnx.ModelProto, kind: str) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=NODES[kind][3]).astype(np.float32)
    return run(model_from_proto(graph), {"x": x})["y"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", NODES)
def test_the_function_stays_the_same_without_the_batch_norm(kind: str, bias: bool) -> None:
    graph = normed(kind, bias=bias)

    folded = fold_batch_norms(graph)

    assert [node.op_type for node in folded.graph.node] == [NODES[kind][0], "Relu"]
    np.testing.assert_allclose(outputs(folded, kind), outputs(graph, kind), rtol=1e-4, atol=1e-4)
    assert {tensor.name for tensor in folded.graph.initializer} == {"w", "s"}


def test_a_result_that_is_read_elsewhere_keeps_its_batch_norm() -> None:
    graph = normed("convolution", also_read=True)

    assert fold_batch_norms(graph) is graph


def test_a_graph_without_batch_norms_is_itself() -> None:
    graph = conv_net()

    assert fold_batch_norms(graph) is graph


def twice(epsilon: float = 1e-5) -> onnx.ModelProto:
    """One convolution and batch norm in two places; in the second it has this epsilon."""
    proto = normed("convolution")
    del proto.graph.node[:]
    norm = ["g", "s", "m", "v"]
    proto.graph.node.extend(
        [
            helper.make_node("Conv", ["x", "w0"], ["x0"]),
            helper.make_node("Conv", ["x0", "w", "b"], ["h"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["h", *norm], ["y"]),
            helper.make_node("Conv", ["y", "w", "b"], ["h2"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["h2", *norm], ["y2"], epsilon=epsilon),
        ]
    )
    proto.graph.initializer[0].CopyFrom(weight("w", CHANNELS, CHANNELS, 3, 3))
    proto.graph.initializer.append(weight("w0", CHANNELS, 4, 1, 1))
    proto.graph.output[0].name = "y2"
    return proto


def test_a_layer_in_two_places_stays_one() -> None:
    graph = twice()

    folded = fold_batch_norms(graph)

    assert {tensor.name for tensor in folded.graph.initializer} == {"w0", "w", "s"}
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 5)).astype(np.float32)
    have, want = (run(model_from_proto(one), {"x": x})["y2"] for one in (folded, graph))
    np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-3)


def test_a_layer_that_is_normed_in_two_ways_becomes_two() -> None:
    folded = fold_batch_norms(twice(epsilon=0.5))

    names = {tensor.name for tensor in folded.graph.initializer}
    assert names == {"w0", "y_weight", "y_bias", "y2_weight", "y2_bias"}


def test_what_is_known_of_parameters_holds_for_the_folded_ones() -> None:
    graph = with_parameter_names(normed("convolution"), ParameterNames(("w", "g"), ("b", "s")))

    names = parameter_names(fold_batch_norms(graph))

    assert names == ParameterNames(("w", "g"), ("b", "s"))
    graph = with_parameter_names(twice(epsilon=0.5), ParameterNames(("w",), ("s",)))
    names = parameter_names(fold_batch_norms(graph))
    assert names == ParameterNames(("w", "y_weight", "y2_weight"), ("s", "y_bias", "y2_bias"))
