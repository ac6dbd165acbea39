from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from hasten.runtimes.litert.lowering import lower_graph
from litert_nets import Net, assert_same, assert_within_a_step, kinds, run_lowered


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Celu", {"alpha": 0.7}),
        ("Elu", {}),
        ("Elu", {"alpha": 0.3}),
        ("Erf", {}),
        ("Gelu", {}),
        ("Gelu", {"approximate": "tanh"}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
        ("HardSwish", {}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("LogSoftmax", {"axis": 1}),
        ("Mish", {}),
        ("Relu", {}),
        ("Selu", {}),
        ("Shrink", {"lambd": 0.4, "bias": 0.1}),
        ("Sigmoid", {}),
        ("Softmax", {"axis": 1}),
        ("Softmax", {"axis": -1}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("Tanh", {}),
        ("ThresholdedRelu", {"alpha": 0.6}),
    ],
)
def test_an_activation_behind_a_convolution_is_that_of_onnx_runtime(
    op: str, attributes: dict[str, Any]
) -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Conv", "x", net.weights(4, 3, 1, 1, scale=2.0))
    assert_same(net, net.add(op, made, **attributes))


def test_the_error_function_is_within_a_millionth() -> None:
    from math import erf

    net = Net({"x": [20001]})
    lowering = lower_graph(net.model(net.add("Erf", "x")))
    points = np.linspace(-6, 6, 20001, dtype=np.float32)
    (found,) = run_lowered(lowering, {"x": points[None]}).values()
    want = np.array([erf(float(point)) for point in points])
    assert np.abs(found[0] - want).max() <= 1e-6


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_before_opset_13_all_axes_from_one_on_are_one(op: str, axis: int) -> None:
    net = Net({"x": [3, 4, 5]}, opset=11)
    assert_same(net, net.add(op, "x", axis=axis))


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0.0, 6.0, "CONV_2D"), (-1.0, 1.0, "CONV_2D"), (-0.5, 2.0, "MINIMUM"), (2.0, 1.0, "MINIMUM")],
)
def test_bounds_that_tflite_names_go_into_the_convolution(
    low: float, high: float, kind: str
) -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Conv", "x", net.weights(4, 3, 1, 1, scale=2.0))
    bounds = [net.constant(np.array(one, np.float32)) for one in (low, high)]
    lowering = assert_same(net, net.add("Clip", made, *bounds))
    assert kinds(lowering)[-2] == kind


def test_slopes_for_each_channel_follow_the_channels() -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Conv", "x", net.weights(4, 3, 1, 1))
    lowering = assert_same(net, net.add("PRelu", made, net.weights(4, 1, 1)))
    assert kinds(lowering) == ["TRANSPOSE", "CONV_2D", "PRELU", "TRANSPOSE"]


@pytest.mark.parametrize("dtype", [np.int8, np.int32])
def test_integers_without_a_scale_are_no_quantized_values(dtype: type) -> None:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", element, [2, 3])],
        [helper.make_tensor_value_info("y", element, [2, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    values: np.ndarray = np.array([[-128, -1, 0], [1, 5, 127]], dtype)
    found = run_lowered(lower_graph(model), {"x": values})["y"]
    assert TensorProto.DataType.Name(element) == found.dtype.name.upper()
    assert np.array_equal(found, np.maximum(values, 0))


@pytest.mark.parametrize(
    ("op", "attributes", "scale", "zero_point"),
    [
        ("Elu", {}, 0.02, -70),
        ("Gelu", {}, 0.02, -110),
        ("HardSwish", {}, 0.02, -100),
        ("LeakyRelu", {"alpha": 0.1}, 0.02, -100),
        ("Relu", {}, 0.02, -128),
        ("Sigmoid", {}, 1 / 255, -128),
        ("Softmax", {"axis": -1}, 1 / 255, -128),
        ("Tanh", {}, 1 / 127, 0),
    ],
)
def test_a_quantized_activation_stays_in_integers(
    op: str, attributes: dict[str, Any], scale: float, zero_point: int
) -> None:
    net = Net({"x": [40, 16]})
    made = net.add(op, net.paired("x", 0.03, 5), **attributes)
    lowering = assert_within_a_step(net, net.paired(made, scale, zero_point), scale)
    assert kinds(lowering).count("DEQUANTIZE") == 1


@pytest.mark.parametrize("op", ["Sigmoid", "Softmax"])
def test_a_scale_finer_than_the_kernels_own_is_reached_through_floats(op: str) -> None:
    net = Net({"x": [40, 16]})
    made = net.add(op, net.paired("x", 0.03, 5))
    lowering = assert_within_a_step(net, net.paired(made, 1 / 1000, -128), 1 / 1000)
    assert kinds(lowering).count("DEQUANTIZE") == 2


def test_quantized_slopes_are_within_a_step() -> None:
    net = Net({"x": [3, 12, 12]})
    value = net.paired("x", 0.03, 5)
    made = net.add("PRelu", value, net.constant(np.array([[[0.1]], [[0.3]], [[0.2]]], np.float32)))
    assert_within_a_step(net, net.paired(made, 0.02, -80), 0.02)
