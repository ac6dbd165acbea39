"""Blocks of a graph: where borders are, and that every node is in one block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hasten.graph import Block, blocks
from nets import conv_net
from onnx_models import model, value


class Net:
    """A graph made layer by layer; every layer takes names of tensors and returns its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = "x"

    def layer(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, *, depthwise: bool = False) -> str:
        weight = f"w{len(self.nodes)}"
        shape = (4, 1, 3, 3) if depthwise else (4, 4, 1, 1)
        self.weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), weight))
        return self.layer("Conv", x, weight, group=4 if depthwise else 1)

    def gate(self, x: str) -> str:
        """Squeeze-and-excite."""
        pooled = self.layer("GlobalAveragePool", x)
        excited = self.conv(self.layer("Relu", self.conv(pooled)))
        return self.layer("Mul", self.layer("HardSigmoid", excited), x)

    def inverted(self, x: str, *, residual: bool) -> str:
        """Expand, depthwise, squeeze-and-excite, project; with hard-swish written out."""
        expanded = self.conv(x)
        swish = self.layer("Mul", self.layer("HardSigmoid", expanded), expanded)
        made = self.conv(self.gate(self.conv(swish, depthwise=True)))
        return self.layer("Add", made, x) if residual else made

    def attention(self, x: str) -> str:
        query, key, given = (self.layer("MatMul", x, "w") for _ in range(3))
        scores = self.layer("Softmax", self.layer("MatMul", query, key))
        return self.layer("Add", self.layer("MatMul", scores, given), x)

    def perceptron(self, x: str) -> str:
        wide = self.layer("Gelu", self.layer("MatMul", x, "w"))
        return self.layer("Add", self.layer("MatMul", wide, "w"), x)

    def proto(self, *outputs: str, inputs: Sequence[str] = ("x",)) -> onnx.ModelProto:
        weights = [*self.weights, numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")]
        return model(
            self.nodes,
            [value(name, ["n", 4, 8, 8]) for name in inputs],
            [value(name, None) for name in outputs],
            weights,
        )


def labels(proto: onnx.ModelProto) -> list[str]:
    return [block.label for block in blocks(proto)]


def unet(depth: int) -> Net:
    net, last, skips = Net(), "x", []
    for _ in range(depth):
        last = net.layer("Relu", net.conv(net.layer("Relu", net.conv(last))))
        skips.append(last)
        last = net.layer("MaxPool", last, kernel_shape=[2, 2])
    last = net.conv(net.conv(last))
    for skip in reversed(skips):
        last = net.layer("Concat", net.layer("Upsample", last), skip, axis=1)
        last = net.layer("Relu", net.conv(net.layer("Relu", net.conv(last))))
    net.last = last
    return net


def test_an_activation_a_pool_and_a_reshape_belong_to_the_convolution_before() -> None:
    assert labels(conv_net()) == ["c1..r1", "c2..flat", "y"]


def test_a_residual_block_with_its_gate_is_one_block() -> None:
    net = Net()
    first = net.inverted(net.layer("Relu", net.conv("x")), residual=True)
    found = blocks(net.proto(net.inverted(first, residual=True)))
    assert [block.label for block in found] == ["conv0..relu1", "conv2..add13", "conv14..add25"]


def test_a_depthwise_convolution_and_its_gate_belong_to_the_pointwise_ones_around() -> None:
    net = Net()
    last = "x"
    for _ in range(2):
        last = net.inverted(last, residual=False)
    assert [name.split("..")[0] for name in labels(net.proto(last))] == ["conv0", "conv11"]


def test_separable_convolutions_in_a_row_are_a_block_each() -> None:
    net = Net()
    last = net.conv("x")
    for _ in range(3):
        last = net.conv(net.conv(last, depthwise=True))
    assert labels(net.proto(last)) == ["conv0..conv2", "conv3..conv4", "conv5..conv6"]


def test_a_transformer_layer_is_its_attention_and_its_perceptron() -> None:
    net = Net()
    last = "x"
    for _ in range(2):
        last = net.perceptron(net.attention(last))
    assert labels(net.proto(last)) == [
        "matmul0..add6",
        "matmul7..add10",
        "matmul11..add17",
        "matmul18..add21",
    ]


def test_a_small_unet_inside_its_first_skip_is_one_block() -> None:
    net = unet(1)
    assert labels(net.proto(net.last)) == [
        "conv0..relu1",
        "conv2..relu3",
        "maxpool4..concat8",
        "conv9..relu10",
        "conv11..relu12",
    ]


def test_a_large_unet_is_divided_inside_its_skips() -> None:
    net = unet(4)
    found = blocks(net.proto(net.last))
    products = [sum("conv" in name for name in block.nodes) for block in found]
    assert max(products) <= 8
    assert sum(products) == 4 * 2 * 2 + 2


def test_a_second_output_is_a_border() -> None:
    net = Net()
    trunk = net.layer("Relu", net.conv("x"))
    side = net.conv(net.layer("Sigmoid", trunk))
    end = net.conv(net.conv(trunk))
    assert labels(net.proto(end, side))[0] == "conv0..relu1"


def test_two_towers_are_divided_each_along_itself() -> None:
    net = Net()
    ends = []
    for name in ("left", "right"):
        for _ in range(5):
            name = net.layer("Relu", net.conv(name))  # noqa: PLW2901 - layer upon layer
        ends.append(name)
    joined = net.conv(net.layer("Add", *ends))
    found = blocks(net.proto(joined, inputs=("left", "right")))
    assert len(found) == 2 * 5 + 1
    assert found[-1].nodes[0] == "add20"


def test_what_tells_of_shapes_alone_is_no_path_through_the_graph() -> None:
    net = Net()
    shape = net.layer("Shape", "x")
    last = net.conv(net.layer("Relu", net.conv("x")))
    end = net.layer("Reshape", last, shape)
    assert blocks(net.proto(end)) == (
        Block("conv1", ("conv1", "relu2")),
        Block("conv3", ("shape0", "conv3", "reshape4")),
    )


def test_nodes_without_a_name_go_by_their_first_output() -> None:
    proto = conv_net()
    for node in proto.graph.node:
        node.name = "same"
    assert [block.name for block in blocks(proto)] == ["c1", "c2", "y"]


def test_a_block_is_labelled_by_its_ends() -> None:
    assert Block("a", ("a",)).label == "a"
    assert Block("a", ("a", "b", "c")).label == "a..c"


kinds = st.sampled_from(["conv", "gate", "residual", "plain", "attention", "perceptron", "relu"])


@given(layers=st.lists(kinds, min_size=1, max_size=8))
def test_a_chain_is_divided_without_rest_and_each_block_has_one_way_in_and_out(
    layers: list[str],
) -> None:
    net, last = Net(), "x"
    make: dict[str, Callable[[str], str]] = {
        "conv": net.conv,
        "gate": net.gate,
        "residual": lambda x: net.inverted(x, residual=True),
        "plain": lambda x: net.inverted(x, residual=False),
        "attention": net.attention,
        "perceptron": net.perceptron,
        "relu": lambda x: net.layer("Relu", x),
    }
    for layer in layers:
        last = make[layer](last)
    proto = net.proto(last)
    found = blocks(proto)
    names = [name for block in found for name in block.nodes]
    assert names == [node.name for node in proto.graph.node]
    assert len({block.name for block in found}) == len(found)
    by_name = {node.name: node for node in proto.graph.node}
    for block in found:
        inside = {name for node in block.nodes for name in by_name[node].output}
        read = {name for node in block.nodes for name in by_name[node].input}
        entering = {name for name in read - inside if not name.startswith("w")}
        beyond = {
            name for node in by_name.values() for name in node.input if node.name not in block.nodes
        } | {last}
        assert len(entering) == 1
        assert len(inside & beyond) == 1
