from __future__ import annotations

import numpy as np
import pytest

from litert_nets import Net, assert_same, kinds


def _number(net: Net, value: float) -> str:
    return net.constant(np.array(value, np.float32))


def _one_plus_erf(net: Net, value: str, *, divides: bool) -> str:
    scaled = (
        net.add("Div", value, _number(net, 2**0.5))
        if divides
        else net.add("Mul", value, _number(net, 0.70710677))
    )
    return net.add("Add", net.add("Erf", scaled), _number(net, 1.0))


@pytest.mark.parametrize("divides", [True, False])
@pytest.mark.parametrize("order", ["operand first", "half first", "half of the operand"])
def test_the_nodes_that_exporters_write_are_one_gelu(order: str, divides: bool) -> None:
    net = Net({"x": [4, 6]}, opset=17)
    value = net.add("MatMul", "x", net.weights(6, 8))
    inner = _one_plus_erf(net, value, divides=divides)
    half = _number(net, 0.5)
    if order == "operand first":
        made = net.add("Mul", net.add("Mul", value, inner), half)
    elif order == "half first":
        made = net.add("Mul", net.add("Mul", half, inner), value)
    else:
        made = net.add("Mul", net.add("Mul", value, half), inner)
    lowering = assert_same(net, net.add("MatMul", made, net.weights(8, 3)))
    assert kinds(lowering) == ["FULLY_CONNECTED", "GELU", "FULLY_CONNECTED"]


def test_another_factor_is_another_function() -> None:
    net = Net({"x": [4, 6]}, opset=17)
    inner = _one_plus_erf(net, "x", divides=True)
    lowering = assert_same(net, net.add("Mul", net.add("Mul", "x", inner), _number(net, 0.6)))
    assert "GELU" not in kinds(lowering)


def test_what_is_read_from_within_stays() -> None:
    net = Net({"x": [4, 6]}, opset=17)
    inner = _one_plus_erf(net, "x", divides=True)
    made = net.add("Mul", net.add("Mul", "x", inner), _number(net, 0.5))
    assert_same(net, made, net.add("Relu", inner))


def test_a_scaled_operand_that_others_read_stays_beside_the_gelu() -> None:
    net = Net({"x": [4, 6]}, opset=17)
    half = net.add("Mul", "x", _number(net, 0.5))
    made = net.add("Mul", half, _one_plus_erf(net, "x", divides=True))
    lowering = assert_same(net, made, net.add("Relu", half))
    assert "GELU" in kinds(lowering)
