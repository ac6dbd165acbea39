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
from hasten.compress.quantization.biased_layers import ChannelsOf
from hasten.compress.quantization.rounding import Weights, quantize_weight
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from int8_net import constants
from onnx_models import model, run, value, weight

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


def deconv_net(*, stride: int) -> Model:
    """A transposed convolution whose kernels are as wide as its steps: each output has one tap."""
    weights = [tensor("w", _CHANNELS, 5, stride, stride, seed=1), tensor("b", 5, seed=2)]
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[stride, stride])
    side = _SIDE * stride
    return model_from_proto(
        model(
            [node],
            [value("x", ["n", _CHANNELS, _SIDE, _SIDE])],
            [value("y", ["n", 5, side, side])],
            weights,
        ),
        "deconv",
    )


def tokens_net(*, first: str, shape: tuple[int, ...] = (5,)) -> Model:
    """A product of tokens, the last axis of a picture, with an Add behind it."""
    reads = {"product": ["m", "b"], "bias": ["b", "m"]}[first]
    bias = np.linspace(-1, 1, 5, dtype=np.float32).reshape(shape)  # it will have 8 bits
    return model_from_proto(
        model(
            [
                helper.make_node("MatMul", ["x", "w"], ["m"]),
                helper.make_node("Add", reads, ["y"]),
            ],
            [value("x", ["n", _CHANNELS, _SIDE, _SIDE])],
            [value("y", ["n", _CHANNELS, _SIDE, 5])],
            [weight("w", _SIDE, 5), numpy_helper.from_array(bias, "b")],
        ),
        "tokens",
    )


NETS = {
    "conv": conv_net(),
    "conv without bias": conv_net(bias=False),
    "grouped conv": conv_net(groups=2),
    "depthwise conv": conv_net(groups=_CHANNELS),
    "gemm": gemm_net(transposed=False),
    "gemm transposed": gemm_net(transposed=True),
    "transposed conv": deconv_net(stride=2),
    "tokens": tokens_net(first="product"),
    "tokens, bias first": tokens_net(first="bias"),
    "tokens, bias of three axes": tokens_net(first="product", shape=(1, 1, 5)),
}
#: The axis that their weights are rounded along, and that of the channels they give.
AXES = {
    **dict.fromkeys(NETS, (0, 1)),
    "gemm": (1, 1),
    "transposed conv": (1, 1),
    **{name: (1, -1) for name in NETS if name.startswith("tokens")},
}
every_net = pytest.mark.parametrize("name", NETS)


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


def means(net: Model) -> dict[ChannelsOf, np.ndarray]:
    feed = images()
    values = {"x": feed, "f": feed.reshape(len(feed), -1)}
    found = {}
    for of in correctable_inputs(net.graph):
        mean = ChannelMean(of.axis)
        mean.add(values[of.tensor])
        found[of] = mean.value
    return found


def channel_shift(want: np.ndarray, got: np.ndarray, channels: int = 1) -> float:
    """How far the mean output of a channel is off, for the worst channel."""
    axes = tuple(axis for axis in range(want.ndim) if axis != channels % want.ndim)
    return float(np.abs((got - want).mean(axis=axes)).max())


def corrected(
    net: Model, known: dict[ChannelsOf, np.ndarray] | None = None, weights: Weights = "w8"
) -> Model:
    found = correct_biases(net.graph, means(net) if known is None else known, weights)
    return model_from_proto(found, "corrected")


@pytest.mark.parametrize("weights", ["w8", "w7"])
@every_net
def test_rounded_weights_shift_no_channel_once_the_bias_is_corrected(
    name: str, weights: Weights
) -> None:
    net, feed = NETS[name], {"x": images()}
    axis, channels = AXES[name]
    want = run(net, feed)["y"]

    def shift(found: Model) -> float:
        rounded = with_rounded_weights(found, axis=axis, weights=weights)
        return channel_shift(want, run(rounded, feed)["y"], channels)

    assert shift(corrected(net, weights=weights)) < shift(net) / 5


@every_net
def test_an_int8_model_has_means_closer_to_float_with_correction(name: str, tmp_path: Path) -> None:
    net, feed = NETS[name], {"x": images()}
    want = run(net, feed)["y"]
    # What an Add adds is rounded to a step of its result, and more than that has to be corrected.
    weights: Weights = "w4" if name.startswith("tokens") else "w8"
    shifts = {}
    for bias in ("plain", "corrected"):
        place = Context(tmp_path, Samples(feed))
        found = apply_step(net, StaticInt8("u8", weights, bias=bias), place)
        shifts[bias] = channel_shift(want, run(found, feed)["y"], AXES[name][1])
    assert shifts["corrected"] < shifts["plain"]


def test_a_product_whose_result_is_read_elsewhere_too_keeps_its_bias() -> None:
    net = tokens_net(first="product")
    proto = onnx.ModelProto()
    proto.CopyFrom(net.graph)
    proto.graph.output.append(value("m", ["n", _CHANNELS, _SIDE, 5]))
    assert correctable_inputs(proto) == []


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


@pytest.mark.parametrize("channels", [1, -1])
@pytest.mark.parametrize("shape", [(30, 4), (30, 4, 5), (30, 4, 5, 3)])
def test_a_streamed_channel_mean_equals_that_of_the_whole(
    shape: tuple[int, ...], channels: int
) -> None:
    whole = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    streamed = ChannelMean(channels)
    for part in np.split(whole, [1, 7, 20, 20]):
        streamed.add(part)
    axes = tuple(axis for axis in range(whole.ndim) if axis != channels % whole.ndim)
    np.testing.assert_allclose(streamed.value, whole.mean(axis=axes, dtype=np.float64), rtol=1e-12)
