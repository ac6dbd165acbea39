"""What LiteRT's integers may be off by: the rule, and the kernels that it is a rule of."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.graph import constants_of
from hasten.runtimes.litert.lowering import lower_graph
from hasten.train.rounding import TIE, Rounding
from litert_nets import Net, run_lowered, run_onnx

CODES = np.arange(-128, 128)


def scales_of(graph: onnx.ModelProto) -> dict[str, float]:
    known = {
        name: onnx.numpy_helper.to_array(one) for name, one in constants_of(graph.graph).items()
    }
    return {
        node.output[0]: float(known[node.input[1]])
        for node in graph.graph.node
        if node.op_type == "QuantizeLinear"
    }


def beyond_halfway(net: Net, output: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
    """How far LiteRT's levels of a pair are from what was rounded, less a half, and the ties."""
    graph = net.model(output)
    pair = next(node for node in graph.graph.node if node.output[0] == output)
    quantizer = next(node for node in graph.graph.node if node.output[0] == pair.input[0])
    scale, point = (net.constants[name] for name in pair.input[1:3])
    read = onnx.ModelProto()
    read.CopyFrom(graph)
    read.graph.output[0].name = quantizer.input[0]
    exact = run_onnx(read, {"x": x})[quantizer.input[0]].astype(np.float64) / scale + point
    exact = np.clip(exact, -128, 127)
    levels = run_lowered(lower_graph(graph), {"x": x})[output] / scale.astype(np.float64) + point
    rounding = Rounding(graph, "litert", scales_of(graph))
    return np.abs(exact - levels) - 0.5, rounding.ties(quantizer.output[0], exact - point)


@settings(max_examples=40, deadline=None)
@given(
    scale=st.floats(0.01, 2.0),
    ratio=st.floats(0.005, 8.0),
    points=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    moving=st.sampled_from(["Reshape", "Transpose", "Concat", "Where"]),
)
def test_all_integers_that_get_another_scale_are_within_their_ties(
    scale: float, ratio: float, points: tuple[int, int], moving: str
) -> None:
    net = Net({"x": [16, 16]}, batch=1)
    one = net.paired("x", scale, points[0])
    if moving == "Concat":
        moved = net.add("Concat", one, net.paired("x", scale * 1.5, points[1]), axis=1)
    elif moving == "Where":
        below = net.add("Less", "x", net.constant(np.array(0, np.float32)))
        moved = net.add("Where", below, one, net.paired("x", scale * 1.5, points[1]))
    elif moving == "Transpose":
        moved = net.add("Transpose", one, perm=[0, 2, 1])
    else:
        moved = net.add("Reshape", one, net.constant(np.array([1, 256])))
    x = ((CODES - points[0]) * np.float32(scale)).astype(np.float32).reshape(1, 16, 16)

    beyond, ties = beyond_halfway(net, net.paired(moved, scale / ratio, points[1]), x)

    assert np.all(beyond <= ties)


def test_they_are_off_by_more_than_sums_of_floats() -> None:
    """Else the rule would not be needed: 0.4 steps more, at the far end of a range."""
    net = Net({"x": [16, 16]}, batch=1)
    moved = net.add("Transpose", net.paired("x", 1.0, -128), perm=[0, 2, 1])
    x = (CODES + 128).astype(np.float32).reshape(1, 16, 16)

    beyond, ties = beyond_halfway(net, net.paired(moved, 1.2345, -128), x)

    assert np.max(beyond) > 10 * TIE
    assert np.min(ties) == TIE


@pytest.mark.parametrize("ratio", [0.19, 0.27, 0.45, 0.97])
@pytest.mark.parametrize(
    ("operator", "more"),
    [("Elu", 0.0), ("Gelu", 0.0), ("GlobalAveragePool", 0.0), ("Relu", 0.25), ("LeakyRelu", 0.5)],
)
def test_what_is_computed_is_rounded_once_or_as_its_kernel_does(
    operator: str, more: float, ratio: float
) -> None:
    net = Net({"x": [4, 8, 8]}, batch=1, opset=20)
    made = net.add(operator, net.paired("x", 0.03, 11))

    beyond, ties = beyond_halfway(net, net.paired(made, 0.03 / ratio, -9), net.feed(1)["x"])

    assert np.all(beyond <= ties)
    assert ties == pytest.approx(TIE + more, abs=0.01)
