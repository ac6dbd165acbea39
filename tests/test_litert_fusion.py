from __future__ import annotations

import numpy as np
import pytest

from litert_nets import Net, assert_same, assert_within_a_step, kinds


@pytest.mark.parametrize("op", ["Mul", "Add", "Sub"])
@pytest.mark.parametrize("shape", [(4, 1, 1), (1,), (1, 4, 1, 1)])
def test_a_constant_for_each_channel_goes_into_the_convolution(
    op: str, shape: tuple[int, ...]
) -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Conv", "x", net.weights(4, 3, 3, 3), net.weights(4))
    lowering = assert_same(net, net.add("Relu", net.add(op, made, net.weights(*shape))))
    assert kinds(lowering) == ["TRANSPOSE", "CONV_2D", "TRANSPOSE"]


@pytest.mark.parametrize("shape", [(6, 1), (4, 6, 1), (5,)])
def test_a_constant_along_other_axes_stays(shape: tuple[int, ...]) -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Conv", "x", net.weights(4, 3, 1, 1))
    lowering = assert_same(net, net.add("Mul", made, net.weights(*shape)))
    assert "MUL" in kinds(lowering)


@pytest.mark.parametrize("group", [3, 1])
def test_factors_go_into_the_weights_of_each_kind_of_convolution(group: int) -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Conv", "x", net.weights(6, 3 // group, 3, 3), group=group)
    lowering = assert_same(net, net.add("Mul", made, net.weights(6, 1, 1)))
    assert "MUL" not in kinds(lowering)


def test_factors_go_into_a_transposed_convolution() -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("ConvTranspose", "x", net.weights(3, 4, 2, 2), strides=[2, 2])
    lowering = assert_same(net, net.add("Mul", made, net.weights(4, 1, 1)))
    assert "MUL" not in kinds(lowering)


def test_nothing_goes_past_an_activation() -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Relu", net.add("Conv", "x", net.weights(4, 3, 1, 1)))
    lowering = assert_same(net, net.add("Add", made, net.weights(4, 1, 1)))
    assert "ADD" in kinds(lowering)


def test_what_others_read_too_is_not_changed() -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Conv", "x", net.weights(4, 3, 1, 1))
    assert_same(net, net.add("Mul", made, net.weights(4, 1, 1)), net.add("Relu", made), made)


def test_a_reshape_of_a_reshape_is_one() -> None:
    net = Net({"x": [4, 6]})
    shapes = [net.constant(np.array(shape)) for shape in ([0, 24], [0, 2, 12], [0, 4, 6])]
    value = net.add("Relu", "x")
    for shape in shapes:
        value = net.add("Reshape", value, shape)
    lowering = assert_same(net, net.add("Sigmoid", value))
    assert kinds(lowering) == ["RELU", "LOGISTIC"]


def test_a_quantized_net_computes_in_integers_throughout() -> None:
    net = Net({"x": [3, 16, 16]})

    def layer(value: str, channels: int) -> str:
        weights = net.int8_weights(8, channels, 3, 3)
        made = net.add("Conv", value, weights, net.weights(8), pads=[1, 1, 1, 1])
        return net.paired(net.add("Relu", made), 0.02, -128)

    first = layer(net.paired("x", 0.03, 0), 3)
    pooled = net.add("MaxPool", first, kernel_shape=[2, 2], strides=[2, 2])
    pooled = net.paired(pooled, 0.02, -128)
    added = net.paired(net.add("Add", layer(pooled, 8), pooled), 0.03, -128)
    joined = net.paired(net.add("Concat", added, pooled, axis=1), 0.03, -128)
    mean = net.paired(net.add("GlobalAveragePool", joined), 0.01, -128)
    flat = net.paired(net.add("Flatten", mean), 0.01, -128)
    made = net.add("Gemm", flat, net.int8_weights(10, 16), net.weights(10), transB=1)
    lowering = assert_within_a_step(net, net.paired(made, 0.02, 0), 0.02)
    assert [kind for kind in kinds(lowering) if "QUANTIZE" in kind] == [
        *("QUANTIZE", "QUANTIZE", "DEQUANTIZE"),  # the one within requantizes for Concat
    ]
