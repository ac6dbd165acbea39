"""Small ONNX models, made node by node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from hasten.graph import Model
from hasten.graph.clean import Arrays


def value(
    name: str, shape: Sequence[int | str | None] | None, dtype: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(array, name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 18), *(helper.make_opsetid(name, 1) for name in domains)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializer=weights)
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=9)


def linear() -> onnx.ModelProto:
    """x[n,4] times w[4,3], one node, one weight."""
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [weight("w", 4, 3)],
    )


def conv_bn(extra: Sequence[onnx.NodeProto] = ()) -> onnx.ModelProto:
    """A convolution, its batch norm, a scale made of constants, and a node nobody reads."""
    batch_norm = [weight(name, 4, seed=seed) for seed, name in enumerate(("g", "b", "m"))]
    variance = numpy_helper.from_array(np.full(4, 0.5, np.float32), "v")
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["normed"]),
        helper.make_node("Add", ["one", "one"], ["two"]),
        helper.make_node("Mul", ["normed", "two"], ["y"]),
        helper.make_node("Relu", ["normed"], ["unread"]),
    ]
    weights = [weight("w", 4, 3, 3, 3), *batch_norm, variance, one]
    return model(
        [*nodes, *extra], [value("x", ["n", 3, 8, 8])], [value("y", ["n", 4, 6, 6])], weights
    )


def branching() -> onnx.ModelProto:
    """Relu or Neg of x, by a condition."""
    then = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["t"])], "then", [], [value("t", ["n", 4])]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"])], "else", [], [value("e", ["n", 4])]
    )
    choose = helper.make_node(
        "If", ["cond"], ["y"], name="choose", then_branch=then, else_branch=other
    )
    inputs = [value("cond", [], TensorProto.BOOL), value("x", ["n", 4])]
    return model([choose], inputs, [value("y", ["n", 4])])


def run(net: Model, feed: Arrays) -> dict[str, np.ndarray]:
    """Compute the outputs with ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(net.payload, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))
