from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering import lower_graph
from litert_nets import Net, assert_same, assert_within_a_step, kinds


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 5, 6)])
def test_a_product_with_weights_takes_the_offset_behind_it(shape: tuple[int, ...]) -> None:
    net = Net({"x": shape})
    made = net.add("Add", net.weights(4), net.add("MatMul", "x", net.weights(6, 4)))
    lowering = assert_same(net, net.add("Relu", made))
    assert kinds(lowering) == ["FULLY_CONNECTED"]


def test_an_offset_that_others_read_the_product_before_is_not_taken() -> None:
    net = Net({"x": [5, 6]})
    product = net.add("MatMul", "x", net.weights(6, 4))
    lowering = assert_same(net, net.add("Add", product, net.weights(4)), product)
    assert kinds(lowering) == ["FULLY_CONNECTED", "ADD"]


def test_an_offset_that_adds_axes_is_not_taken() -> None:
    net = Net({"x": [6]})
    product = net.add("MatMul", "x", net.weights(6, 4))
    assert_same(net, net.add("Add", product, net.weights(1, 1, 4)), batches=[3])


def test_weights_on_the_left_are_a_product_too() -> None:
    net = Net({"x": [5, 6]})
    lowering = assert_same(net, net.add("MatMul", net.weights(4, 5), "x"))
    assert "FULLY_CONNECTED" in kinds(lowering)


def test_stacks_of_constant_matrices_are_multiplied() -> None:
    net = Net({"x": [3, 5, 6]})
    assert_same(
        net,
        net.add("MatMul", "x", net.weights(3, 6, 4)),
        net.add("MatMul", net.weights(1, 3, 4, 5), "x"),
        net.add("MatMul", "x", net.weights(1, 1, 6, 4)),
    )


def test_attention_needs_no_transposed_keys() -> None:
    net = Net({"q": [2, 5, 8], "k": [2, 7, 8], "v": [2, 7, 8]})
    scores = net.add("MatMul", "q", net.add("Transpose", "k", perm=[0, 1, 3, 2]))
    lowering = assert_same(net, net.add("MatMul", net.add("Softmax", scores), "v"))
    assert kinds(lowering) == ["BATCH_MATMUL", "SOFTMAX", "BATCH_MATMUL"]


@pytest.mark.parametrize(
    "attributes",
    [{}, {"transB": 1}, {"alpha": 0.5}, {"beta": 2.0}, {"alpha": 0.5, "beta": 2.0, "transB": 1}],
)
@pytest.mark.parametrize("offset", [(), (4,), (1, 4), None])
def test_gemm_is_that_of_onnx_runtime(
    attributes: dict[str, Any], offset: tuple[int, ...] | None
) -> None:
    net = Net({"x": [6]})
    shape = (4, 6) if "transB" in attributes else (6, 4)
    more = [] if offset is None else [net.weights(*offset)]
    assert_same(net, net.add("Gemm", "x", net.weights(*shape), *more, **attributes))


def test_gemm_of_two_computed_matrices() -> None:
    net = Net({"x": [6], "y": [5]})
    assert_same(net, net.add("Gemm", "x", "y", transA=1), batches=[1])


def test_products_of_integers_are_refused() -> None:
    net = Net({"x": [6]})
    codes = net.add("Cast", "x", to=6)
    made = net.add("MatMul", codes, net.constant(np.ones((6, 4), np.int32)))
    with pytest.raises(RefusedError, match=r"MatMul.*matrices of int32"):
        lower_graph(net.model(net.add("Cast", made, to=1)))


@pytest.mark.parametrize("shape", [(16,), (9, 16)])
@pytest.mark.parametrize("axis", [None, 1])
def test_a_quantized_product_with_weights_keeps_to_integers(
    shape: tuple[int, ...], axis: int | None
) -> None:
    net = Net({"x": shape})
    weights = net.int8_weights(16, 40, axis=axis)
    made = net.add("MatMul", net.paired("x", 0.03, 5), weights)
    lowering = assert_within_a_step(net, net.paired(made, 0.02, 3), 0.02)
    assert kinds(lowering) == ["QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"]


def test_a_quantized_gemm_has_its_bias_in_32_bits() -> None:
    net = Net({"x": [16]})
    weights = net.int8_weights(40, 16)
    made = net.add("Gemm", net.paired("x", 0.03, 5), weights, net.weights(40), transB=1)
    lowering = assert_within_a_step(net, net.paired(made, 0.02, 3), 0.02)
    assert kinds(lowering) == ["QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"]


def test_a_quantized_product_of_two_activations_keeps_to_integers() -> None:
    net = Net({"q": [2, 9, 8], "k": [2, 9, 8]})
    keys = net.add("Transpose", net.paired("k", 0.03, 4), perm=[0, 1, 3, 2])
    made = net.add("MatMul", net.paired("q", 0.03, 5), keys)
    lowering = assert_within_a_step(net, net.paired(made, 0.08, 3), 0.08)
    assert "BATCH_MATMUL" in kinds(lowering)
    assert kinds(lowering).count("DEQUANTIZE") == 1


def test_weights_that_alone_are_quantized_are_multiplied_as_floats() -> None:
    net = Net({"x": [64]})
    assert_same(net, net.add("MatMul", "x", net.int8_weights(64, 40, axis=1)))
