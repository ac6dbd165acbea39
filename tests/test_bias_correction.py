"""Bias correction: what rounding the weights shifts on average is taken off again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hasten.compress import Context, StaticInt8, apply_step
from hasten.compress.activations.channel_mean import ChannelMean
from hasten.compress.quantization.bias_correction import correct_biases, correctable_inputs
from hasten.compress.quantization.rounding import Weights, quantize_weight
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from int8_net import constants
from onnx_models import model, run, value

_CHANNELS, _SIDE = 8, 6


def tensor(name: str, *shape: int, seed: int) -> onnx.TensorProto:
    """Weights whose channels have an outlier each, so that rounding shifts the others."""
    array = np.random.default_rng(seed).normal(size=shape)
    array.reshape(shape[0], -1)[:, 0] = 30.0
    return numpy_helper.from_array(array.astype(np.float32), name)


def images(count: int = 64) -> np.ndarray:
    """Activations as a ReLU leaves them: no channel has a mean of zero."""
    values = np.random.default_rng(0).normal(size=(count, _CHANNELS, _SIDE, _SIDE))
    return np.abs(values).astype(np.float32)


def conv_net(*, groups: int = 1, bias: bool = True) -> Model:
    reads = ["x", "w", "b"] if bias else ["x", "w"]
    weights = [tensor("w", 16, _CHANNELS // groups, 3, 3, seed=1)]
    weights += [tensor("b", 16, seed=2)] if bias else []
    return model_from_proto(
        model(
            [helper.make_node("Conv", reads, ["y"], group=groups)],
            [value("x", ["n", _CHANNELS, _SIDE, _SIDE])],
            [value("y", ["n", 16, 4, 4])],
            weights,
        ),
        "conv",
    )


def gemm_net(*, transposed: bool, alpha: float | None = None, beta: float | None = None) -> Model:
    columns = _CHANNELS * _SIDE * _SIDE
    rows = numpy_helper.to_array(tensor("w", 5, columns, seed=3))
    stored = np.ascontiguousarray(rows if transposed else rows.T)
    return model_from_proto(
        model(
            [
                helper.make_node("Flatten", ["x"], ["f"]),
                helper.make_node(
                    "Gemm", ["f", "w", "b"], ["y"], transB=transposed, alpha=alpha, beta=beta
                ),
            ],
            [value("x", ["n", _CHANNELS, _SIDE, _SIDE])],
            [value("y", ["n", 5])],
            [numpy_helper.from_array(stored, "w"), tensor("b", 5, seed=4)],
        ),
        "gemm",
    )


NETS = {
    "conv": conv_net(),
    "conv without bias": conv_net(bias=False),
    "grouped conv": conv_net(groups=2),
    "depthwise conv": conv_net(groups=_CHANNELS),
    "gemm": gemm_net(transposed=False),
    "gemm transposed": gemm_net(transposed=True),
}
every_net = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


def with_rounded_weights(net: Model, *, axis: int, weights: Weights = "w8") -> Model:
    """The weights of ``net`` as int8 holds them; everything else in float."""
    graph = onnx.ModelProto()
    graph.CopyFrom(net.graph)
    for held in graph.graph.initializer:
        if held.name == "w":
            weight = numpy_helper.to_array(held)
            levels, scale = quantize_weight(weight, axis, weights)
            shape = [1] * weight.ndim
            shape[axis] = -1
            rounded = (levels * scale.reshape(shape)).astype(np.float32)
            held.CopyFrom(numpy_helper.from_array(rounded, "w"))
    return model_from_proto(graph, "rounded")


def means(net: Model) -> dict[str, np.ndarray]:
    feed = images()
    flat = feed.reshape(len(feed), -1)
    reads = correctable_inputs(net.graph)
    return {name: (flat if name == "f" else feed.mean(axis=(2, 3))).mean(axis=0) for name in reads}


def channel_shift(want: np.ndarray, got: np.ndarray) -> float:
    """How far the mean output of a channel is off, for the worst channel."""
    axes = tuple(axis for axis in range(want.ndim) if axis != 1)
    return float(np.abs((got - want).mean(axis=axes)).max())


def corrected(
    net: Model, known: dict[str, np.ndarray] | None = None, weights: Weights = "w8"
) -> Model:
    found = correct_biases(net.graph, means(net) if known is None else known, weights)
    return model_from_proto(found, "corrected")


@pytest.mark.parametrize("weights", ["w8", "w7"])
@every_net
def test_rounded_weights_shift_no_channel_once_the_bias_is_corrected(
    net: Model, weights: Weights
) -> None:
    feed = {"x": images()}
    axis = 1 if net is NETS["gemm"] else 0
    want = run(net, feed)["y"]
    plain = channel_shift(
        want, run(with_rounded_weights(net, axis=axis, weights=weights), feed)["y"]
    )
    after = with_rounded_weights(corrected(net, weights=weights), axis=axis, weights=weights)
    assert channel_shift(want, run(after, feed)["y"]) < plain / 5


@every_net
def test_an_int8_model_has_means_closer_to_float_with_correction(
    net: Model, tmp_path: Path
) -> None:
    feed = {"x": images()}
    want = run(net, feed)["y"]
    shifts = {}
    for bias in ("plain", "corrected"):
        place = Context(tmp_path, Samples(feed))
        found = apply_step(net, StaticInt8("u8", bias=bias), place)
        shifts[bias] = channel_shift(want, run(found, feed)["y"])
    assert shifts["corrected"] < shifts["plain"]


def two_convs(biases: Sequence[str]) -> Model:
    weights = [tensor("w", 8, _CHANNELS, 1, 1, seed=1), tensor("v", 8, _CHANNELS, 1, 1, seed=2)]
    outputs = [value(name, ["n", 8, _SIDE, _SIDE]) for name in ("y", "z")]
    return model_from_proto(
        model(
            [
                helper.make_node("Conv", ["x", "w", biases[0]], ["y"]),
                helper.make_node("Conv", ["x", "v", biases[1]], ["z"]),
            ],
            [value("x", ["n", _CHANNELS, _SIDE, _SIDE])],
            outputs,
            [*weights, *(tensor(name, 8, seed=5) for name in dict.fromkeys(biases))],
        ),
        "two",
    )


def test_a_bias_that_two_nodes_share_is_corrected_for_each_apart() -> None:
    shared, apart = corrected(two_convs(["b", "b"])), corrected(two_convs(["b", "c"]))
    feed = {"x": images(2)}
    for name, want in run(apart, feed).items():
        np.testing.assert_allclose(run(shared, feed)[name], want, rtol=1e-5)
    assert len({node.input[2] for node in shared.graph.graph.node}) == 2


def test_biases_that_were_replaced_are_gone() -> None:
    assert "b" not in constants(corrected(conv_net()))


def test_a_node_without_a_bias_gets_one() -> None:
    found = corrected(conv_net(bias=False))
    (node,) = found.graph.graph.node
    assert constants(found)[node.input[2]].shape == (16,)


def test_a_node_whose_input_was_not_seen_keeps_its_bias() -> None:
    net = conv_net()
    assert corrected(net, {}).graph.graph == net.graph.graph


@pytest.mark.parametrize("attribute", [{"alpha": 0.5}, {"beta": 2.0}])
def test_a_scaled_gemm_keeps_its_bias(attribute: dict[str, float]) -> None:
    net = gemm_net(transposed=True, **attribute)
    assert corrected(net).graph.graph == net.graph.graph


def test_a_bias_that_is_computed_is_left_alone() -> None:
    nodes = [
        helper.make_node("Neg", ["b"], ["computed"]),
        helper.make_node("Conv", ["x", "w", "computed"], ["y"]),
    ]
    net = model_from_proto(
        model(
            nodes,
            [value("x", ["n", _CHANNELS, _SIDE, _SIDE])],
            [value("y", ["n", 16, 4, 4])],
            [tensor("w", 16, _CHANNELS, 3, 3, seed=1), tensor("b", 16, seed=2)],
        ),
        "computed",
    )
    assert corrected(net).graph.graph == net.graph.graph


def test_the_given_graph_is_left_as_it_was() -> None:
    net = conv_net()
    before = net.graph.SerializeToString(deterministic=True)
    corrected(net)
    assert net.graph.SerializeToString(deterministic=True) == before


# Channel means


@pytest.mark.parametrize("shape", [(30, 4), (30, 4, 5), (30, 4, 5, 3)])
def test_a_streamed_channel_mean_equals_that_of_the_whole(shape: tuple[int, ...]) -> None:
    whole = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    streamed = ChannelMean()
    for part in np.split(whole, [1, 7, 20]):
        streamed.add(part)
    axes = tuple(axis for axis in range(whole.ndim) if axis != 1)
    np.testing.assert_allclose(streamed.value, whole.mean(axis=axes, dtype=np.float64), rtol=1e-12)
