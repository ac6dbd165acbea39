from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering import lower_graph
from litert_nets import Net, assert_same, assert_within_a_step, kinds


@pytest.mark.parametrize(
    ("channels", "out", "group", "attributes"),
    [
        pytest.param(6, 18, 6, {"pads": [1, 1, 1, 1]}, id="depthwise, three outputs a channel"),
        pytest.param(6, 6, 6, {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, id="depthwise, dilated"),
        pytest.param(6, 6, 6, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, id="depthwise, strided"),
        pytest.param(6, 4, 2, {"pads": [1, 1, 1, 1]}, id="two groups"),
        pytest.param(8, 12, 4, {"strides": [2, 1]}, id="four groups, uneven strides"),
        pytest.param(3, 5, 1, {"pads": [0, 2, 1, 1]}, id="uneven padding"),
        pytest.param(3, 5, 1, {"dilations": [2, 3], "pads": [2, 3, 2, 3]}, id="uneven gaps"),
        pytest.param(3, 5, 1, {"dilations": [2, 2], "strides": [2, 2]}, id="gaps and strides"),
        pytest.param(3, 5, 1, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, id="same lower"),
        pytest.param(3, 5, 1, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, id="same upper"),
    ],
)
def test_a_convolution_is_that_of_onnx_runtime(
    channels: int, out: int, group: int, attributes: dict[str, Any]
) -> None:
    net = Net({"x": [channels, 11, 10]})
    weights, bias = net.weights(out, channels // group, 3, 3), net.weights(out)
    assert_same(net, net.add("Conv", "x", weights, bias, group=group, **attributes))


@pytest.mark.parametrize("group", [1, 2, 4])
def test_a_convolution_of_one_dimension_is_that_of_onnx_runtime(group: int) -> None:
    net = Net({"x": [4, 17]})
    weights = net.weights(8, 4 // group, 3)
    made = net.add("Conv", "x", weights, group=group, strides=[2], pads=[1, 2], dilations=[2])
    assert_same(net, made)


@pytest.mark.parametrize(
    ("group", "attributes"),
    [
        (1, {"pads": [1, 0, 1, 1, 0, 1]}),
        (2, {"strides": [2, 1, 2], "auto_pad": "SAME_UPPER"}),
        (1, {"dilations": [2, 1, 2]}),
    ],
)
def test_a_convolution_of_three_dimensions_is_that_of_onnx_runtime(
    group: int, attributes: dict[str, Any]
) -> None:
    net = Net({"x": [4, 6, 7, 8]})
    weights, bias = net.weights(6, 4 // group, 3, 3, 3), net.weights(6)
    assert_same(net, net.add("Conv", "x", weights, bias, group=group, **attributes))


def test_weights_may_be_computed_while_the_model_runs() -> None:
    net = Net({"x": [3, 8, 8], "k": [3, 3, 3]})
    assert_same(net, net.add("Conv", "x", "k"), batches=[1])


@pytest.mark.parametrize(
    ("group", "kernel", "attributes"),
    [
        pytest.param(1, 2, {"strides": [2, 2]}, id="doubles an image"),
        pytest.param(1, 4, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, id="what SAME means"),
        pytest.param(
            1,
            3,
            {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
            id="padded output",
        ),
        pytest.param(1, 2, {"strides": [3, 3], "output_padding": [2, 1]}, id="beyond its reach"),
        pytest.param(2, 3, {"strides": [2, 1], "pads": [0, 1, 2, 1]}, id="groups"),
        pytest.param(1, 3, {"dilations": [2, 2], "pads": [1, 0, 1, 2]}, id="gaps"),
        pytest.param(1, 3, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, id="same upper"),
        pytest.param(1, 3, {"strides": [2, 2], "output_shape": [12, 13]}, id="output shape"),
    ],
)
def test_a_transposed_convolution_is_that_of_onnx_runtime(
    group: int, kernel: int, attributes: dict[str, Any]
) -> None:
    net = Net({"x": [4, 6, 6]})
    weights, bias = net.weights(4, 6 // group, kernel, kernel), net.weights(6)
    assert_same(net, net.add("ConvTranspose", "x", weights, bias, group=group, **attributes))


def test_a_transposed_convolution_of_one_dimension_is_that_of_onnx_runtime() -> None:
    net = Net({"x": [4, 9]})
    assert_same(net, net.add("ConvTranspose", "x", net.weights(4, 5, 4), strides=[2], pads=[1, 0]))


def test_a_transposed_convolution_with_many_groups_is_refused() -> None:
    net = Net({"x": [65, 4, 4]})
    made = net.add("ConvTranspose", "x", net.weights(65, 1, 2, 2), group=65)
    with pytest.raises(RefusedError, match=r"ConvTranspose.*65 groups"):
        lower_graph(net.model(made))


def test_a_chain_of_images_is_transposed_at_its_ends_alone() -> None:
    net = Net({"x": [3, 16, 16]})
    first = net.add("Conv", "x", net.weights(8, 3, 3, 3), pads=[1, 1, 1, 1])
    first = _normalized(net, first, 8)
    pooled = net.add("MaxPool", net.add("Relu", first), kernel_shape=[2, 2], strides=[2, 2])
    second = net.add("Conv", pooled, net.weights(8, 8, 3, 3), pads=[1, 1, 1, 1])
    second = net.add("Add", net.add("Relu", _normalized(net, second, 8)), pooled)
    joined = net.add("Concat", second, pooled, axis=1)
    last = net.add("Conv", joined, net.weights(4, 16, 1, 1))
    lowering = assert_same(net, last)
    assert kinds(lowering) == [
        *("TRANSPOSE", "CONV_2D", "MAX_POOL_2D", "CONV_2D"),
        *("ADD", "CONCATENATION", "CONV_2D", "TRANSPOSE"),
    ]


def _normalized(net: Net, value: str, channels: int) -> str:
    parameters = [net.weights(channels) for _ in range(3)]
    variance = net.constant(np.linspace(0.5, 2, channels, dtype=np.float32))
    return net.add("BatchNormalization", value, *parameters, variance)


def test_layers_of_one_dimension_are_reshaped_at_the_ends_alone() -> None:
    net = Net({"x": [3, 32]})
    value = "x"
    for channels in (3, 8):
        value = net.add("Conv", value, net.weights(8, channels, 3), pads=[1, 1])
        value = net.add("Relu", _normalized(net, value, 8))
    lowering = assert_same(net, value)
    assert kinds(lowering) == [
        *("TRANSPOSE", "RESHAPE", "CONV_2D", "CONV_2D"),
        *("RESHAPE", "TRANSPOSE"),
    ]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    ("out", "group", "attributes"),
    [
        (8, 1, {"pads": [1, 1, 1, 1]}),
        (8, 1, {"pads": [0, 1, 2, 1], "strides": [2, 2]}),
        (8, 4, {"pads": [1, 1, 1, 1]}),
        (8, 2, {"pads": [1, 1, 1, 1]}),
    ],
)
def test_a_quantized_convolution_is_within_a_step_of_the_unfused_graph(
    dtype: type, out: int, group: int, attributes: dict[str, Any]
) -> None:
    shift = 0 if dtype is np.int8 else 128
    net = Net({"x": [4, 12, 12]})
    value = net.paired("x", 0.03, 5 + shift, dtype)
    weights = net.int8_weights(out, 4 // group, 3, 3)
    made = net.add("Conv", value, weights, net.weights(out), group=group, **attributes)
    made = net.paired(net.add("Relu", made), 0.02, -128 + shift, dtype)
    lowering = assert_within_a_step(net, made, 0.02)
    assert kinds(lowering).count("DEQUANTIZE") == 1


def test_a_quantized_convolution_of_16_bits_is_within_a_step() -> None:
    net = Net({"x": [4, 12, 12]})
    value = net.paired("x", 0.0002, 0, np.int16)
    made = net.add("Conv", value, net.int8_weights(8, 4, 3, 3), net.weights(8))
    lowering = assert_within_a_step(net, net.paired(made, 0.0002, 0, np.int16), 0.0002)
    assert kinds(lowering).count("DEQUANTIZE") == 1


def test_a_quantized_transposed_convolution_is_within_a_step() -> None:
    net = Net({"x": [4, 6, 6]})
    value = net.paired("x", 0.03, 5)
    weights = net.int8_weights(4, 6, 3, 3, axis=1)
    made = net.add(
        "ConvTranspose", value, weights, net.weights(6), strides=[2, 2], pads=[1, 1, 1, 1]
    )
    lowering = assert_within_a_step(net, net.paired(made, 0.03, 0), 0.03)
    assert kinds(lowering).count("DEQUANTIZE") == 1
