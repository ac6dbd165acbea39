"""Elements picked by indices that are known: one, a list or a table of them, from either end."""

from __future__ import annotations

import numpy as np
import pytest

from litert_nets import Net, assert_same


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
@pytest.mark.parametrize("indices", [0, 2, -1, [1], [2, 0, -3], [[1, -1], [0, 2]]], ids=str)
@pytest.mark.parametrize("before", ["Relu", "AveragePool"])
def test_the_axis_is_replaced_by_those_of_the_indices(
    before: str, indices: int | list[int] | list[list[int]], axis: int
) -> None:
    """Behind a ``Relu`` axes are stored in ONNX's order, behind a pooling channels are last."""
    net = Net({"x": [3, 4, 5]})
    kept = net.add("Relu", "x")
    if before != "Relu":
        kept = net.add("AveragePool", "x", kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    picked = net.add("Gather", kept, net.constant(np.array(indices, np.int64)), axis=axis)
    assert_same(net, net.add("Neg", picked), batches=[2])


def test_the_first_sample_is_picked_alone() -> None:
    """Along the batch as well, where the batch is known."""
    net = Net({"x": [3, 4]}, batch=3)
    picked = net.add("Gather", "x", net.constant(np.array(-1, np.int64)), axis=0)
    assert_same(net, net.add("MatMul", picked, net.weights(4, 5)), batches=[3])
