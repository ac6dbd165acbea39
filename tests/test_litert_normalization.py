from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering import lower_graph
from litert_nets import Net, assert_same, kinds, run_lowered


def _behind_a_convolution(net: Net) -> str:
    return net.add("Conv", "x", net.weights(8, 3, 3, 3), pads=[1, 1, 1, 1])


@pytest.mark.parametrize(
    ("op", "parameters", "attributes"),
    [
        ("InstanceNormalization", 2, {}),
        ("GroupNormalization", 2, {"num_groups": 4}),
        ("GroupNormalization", 2, {"num_groups": 1, "epsilon": 0.1}),
        ("LRN", 0, {"size": 3}),
        ("LRN", 0, {"size": 5, "alpha": 0.1, "beta": 0.6, "bias": 2.0}),
        ("LpNormalization", 0, {"axis": 1}),
        ("LpNormalization", 0, {"axis": 3, "p": 1}),
        ("MeanVarianceNormalization", 0, {}),
        ("MeanVarianceNormalization", 0, {"axes": [2, 3]}),
    ],
)
def test_images_are_normalized_without_being_transposed(
    op: str, parameters: int, attributes: dict[str, Any]
) -> None:
    net = Net({"x": [3, 6, 6]})
    made = net.add(
        op, _behind_a_convolution(net), *(net.weights(8) for _ in range(parameters)), **attributes
    )
    if op == "MeanVarianceNormalization" and not attributes:
        assert_same(net, made, batches=[2])
        return
    assert kinds(assert_same(net, made)).count("TRANSPOSE") == 2


def test_an_even_number_of_neighbours_counts_one_more_behind() -> None:
    net = Net({"x": [5, 3, 4]})
    lowering = lower_graph(net.model(net.add("LRN", "x", size=4, alpha=0.5, beta=0.6, bias=2.0)))
    feed = net.feed(2)
    square = np.pad(feed["x"] ** 2, [(0, 0), (1, 2), (0, 0), (0, 0)])
    sums = sum(square[:, at : at + 5] for at in range(4))
    want = feed["x"] / (2 + 0.5 / 4 * sums) ** 0.6
    np.testing.assert_allclose(run_lowered(lowering, feed)["v0"], want, rtol=1e-5)


def test_groups_of_channels_that_are_stored_first_are_normalized() -> None:
    net = Net({"x": [6, 5, 5]})
    assert_same(
        net, net.add("GroupNormalization", "x", net.weights(6), net.weights(6), num_groups=3)
    )


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layers_are_normalized_with_all_outputs(axis: int) -> None:
    net = Net({"x": [5, 8]})
    sizes = (8,) if axis in {-1, 2} else (5, 8)
    net.add(
        "LayerNormalization", "x", net.weights(*sizes), net.weights(*sizes), axis=axis, outputs=3
    )
    assert_same(net, "v0", "v0.1", "v0.2")


def test_int32_offsets_of_any_width_are_computed_beforehand() -> None:
    """DEQUANTIZE has a kernel for 8 and 16 bits, and none for what biases are stored in."""
    net = Net({"x": [3, 768]})
    codes = net.constant(np.arange(-384, 384, dtype=np.int32))
    form = (net.constant(np.array(0.01, np.float32)), net.constant(np.array(0, np.int32)))
    offset = net.add("DequantizeLinear", codes, *form)
    lowering = assert_same(net, net.add("LayerNormalization", "x", net.weights(768), offset))
    assert "DEQUANTIZE" not in kinds(lowering)


def test_batch_normalization_alone_is_a_factor_and_an_offset() -> None:
    net = Net({"x": [3, 6, 6]})
    variance = net.constant(np.array([0.5, 1, 2], np.float32))
    made = net.add(
        "BatchNormalization", "x", net.weights(3), net.weights(3), net.weights(3), variance
    )
    assert kinds(assert_same(net, made)) == ["MUL", "ADD"]


def test_training_is_refused() -> None:
    net = Net({"x": [3, 6, 6]})
    parameters = [net.weights(3) for _ in range(4)]
    made = net.add("BatchNormalization", "x", *parameters, training_mode=1, outputs=3)
    with pytest.raises(RefusedError, match=r"BatchNormalization.*training mode"):
        lower_graph(net.model(made))
