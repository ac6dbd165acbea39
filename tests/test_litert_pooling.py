from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering import lower_graph
from litert_nets import Net, assert_same, assert_within_a_step, kinds

WINDOWS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 0, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"kernel_shape": [2, 3], "dilations": [2, 2]},
    {"kernel_shape": [3, 3], "dilations": [2, 1], "pads": [1, 1, 1, 1], "strides": [2, 2]},
]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_maximum_is_that_of_onnx_runtime(window: dict[str, Any]) -> None:
    net = Net({"x": [3, 11, 10]})
    assert_same(net, net.add("MaxPool", "x", **window))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("counting", [0, 1])
def test_a_mean_is_that_of_onnx_runtime(window: dict[str, Any], counting: int) -> None:
    net = Net({"x": [3, 11, 10]})
    assert_same(net, net.add("AveragePool", "x", count_include_pad=counting, **window))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("rank", [1, 3])
def test_lines_and_volumes_are_pooled_too(op: str, rank: int) -> None:
    net = Net({"x": [3, *(9, 8, 7)[:rank]]})
    window: dict[str, Any] = {
        "kernel_shape": [3] * rank,
        "strides": [2] * rank,
        "pads": [1] * 2 * rank,
    }
    assert_same(net, net.add(op, "x", **window))


@pytest.mark.parametrize("power", [1, 2, 3])
def test_norms_over_windows_and_images_are_those_of_onnx_runtime(power: int) -> None:
    net = Net({"x": [3, 11, 10]})
    windows = net.add("LpPool", "x", kernel_shape=[3, 3], strides=[2, 2], p=power)
    assert_same(net, windows, net.add("GlobalLpPool", "x", p=power))


def test_indices_are_refused() -> None:
    net = Net({"x": [3, 8, 8]})
    net.add("MaxPool", "x", kernel_shape=[2, 2], outputs=2)
    with pytest.raises(RefusedError, match=r"MaxPool.*indices"):
        lower_graph(net.model("v0"))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    ],
)
def test_a_quantized_pool_keeps_to_integers(op: str, window: dict[str, Any]) -> None:
    net = Net({"x": [4, 12, 12]})
    made = net.add(op, net.paired("x", 0.03, 5), **window)
    lowering = assert_within_a_step(net, net.paired(made, 0.03, 5), 0.03)
    assert [kind for kind in kinds(lowering) if "QUANT" in kind] == ["QUANTIZE", "DEQUANTIZE"]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_uneven_padding_of_quantized_windows_is_within_a_step(op: str) -> None:
    net = Net({"x": [4, 11, 11]})
    made = net.add(op, net.paired("x", 0.03, 5), kernel_shape=[3, 3], pads=[0, 1, 2, 1])
    assert_within_a_step(net, net.paired(made, 0.025, 3), 0.025)


def test_a_scale_much_finer_than_the_operands_is_reached_through_floats() -> None:
    net = Net({"x": [4, 12, 12]})
    made = net.add("AveragePool", net.paired("x", 0.03, 5), kernel_shape=[6, 6])
    assert_within_a_step(net, net.paired(made, 0.005, 0), 0.005)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_a_quantized_global_pool_keeps_to_integers(op: str) -> None:
    net = Net({"x": [16, 12, 12]})
    made = net.add(op, net.paired("x", 0.03, 5))
    scale = 0.004 if op == "GlobalAveragePool" else 0.03
    lowering = assert_within_a_step(net, net.paired(made, scale, 0), scale)
    assert kinds(lowering).count("DEQUANTIZE") == 1


def test_codes_of_16_bits_are_pooled() -> None:
    net = Net({"x": [4, 12, 12]})
    made = net.add("MaxPool", net.paired("x", 0.0002, 0, np.int16), kernel_shape=[2, 2])
    assert_within_a_step(net, net.paired(made, 0.0002, 0, np.int16), 0.0002)
