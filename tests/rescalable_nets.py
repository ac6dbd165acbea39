"""Float networks whose channels pass through everything that hands a factor on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hasten.graph import Model, model_from_proto
from onnx_models import model, value

SIDE = 8
WIDTH = 6
TOKENS = 5


def made(name: str, *shape: int) -> onnx.TensorProto:
    """Weights as training leaves them, other ones for each name."""
    random = np.random.default_rng(sum(map(ord, name)) + len(name))
    scale = np.sqrt(2 / max(1, int(np.prod(shape[1:])))) if len(shape) > 1 else 0.3
    return numpy_helper.from_array((random.normal(size=shape) * scale).astype(np.float32), name)


def net(
    name: str, nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto], *taken: int
) -> Model:
    """A model from x[n, ...] to y."""
    inputs, outputs = [value("x", ["n", *taken])], [value("y", None)]
    return model_from_proto(model(nodes, inputs, outputs, weights), name)


def convolutions() -> Model:
    """Dense, depthwise and grouped convolutions, pools, and a head behind a flatten."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], group=WIDTH, pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["c2"], ["r2"], alpha=0.1),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], group=2),
        helper.make_node("PRelu", ["c3", "slope"], ["r3"]),
        helper.make_node("MaxPool", ["r3"], ["m3"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["m3", "w4", "b4"], ["c4"]),
        helper.make_node("AveragePool", ["c4"], ["a4"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["a4"], ["f"]),
        helper.make_node("Gemm", ["f", "w5", "b5"], ["y"]),
    ]
    weights = [
        *(made("w1", WIDTH, 3, 3, 3), made("b1", WIDTH)),
        *(made("w2", WIDTH, 1, 3, 3), made("b2", WIDTH)),
        *(made("w3", 8, WIDTH // 2, 1, 1), made("b3", 8), made("slope", 8, 1, 1)),
        *(made("w4", 8, WIDTH, 2, 2), made("b4", WIDTH)),
        *(made("w5", WIDTH * 4, 4), made("b5", 4)),
    ]
    return net("convolutions", nodes, weights, 3, SIDE, SIDE)


def residual() -> Model:
    """Two residual sums over the same channels, with squeeze-and-excite in between."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"]),
        helper.make_node("Add", ["c2", "r1"], ["s2"]),
        helper.make_node("GlobalAveragePool", ["s2"], ["p"]),
        helper.make_node("Conv", ["p", "w3"], ["c3"]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("Conv", ["r3", "w4"], ["c4"]),
        helper.make_node("Sigmoid", ["c4"], ["gate"]),
        helper.make_node("Mul", ["s2", "gate"], ["excited"]),
        helper.make_node("Conv", ["excited", "w5"], ["c5"]),
        helper.make_node("Add", ["excited", "c5"], ["s5"]),
        helper.make_node("GlobalAveragePool", ["s5"], ["q"]),
        helper.make_node("Squeeze", ["q", "axes"], ["f"]),
        helper.make_node("Gemm", ["f", "w6"], ["y"], transB=1),
    ]
    weights = [
        *(made("w1", WIDTH, 3, 1, 1), made("b1", WIDTH), made("w2", WIDTH, WIDTH, 1, 1)),
        *(made("w3", 3, WIDTH, 1, 1), made("w4", WIDTH, 3, 1, 1)),
        *(made("w5", WIDTH, WIDTH, 1, 1), made("w6", 4, WIDTH)),
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
    ]
    return net("residual", nodes, weights, 3, SIDE, SIDE)


def concatenated() -> Model:
    """Channels that are split and joined again, in another order, and mean over the image."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"]),
        helper.make_node("Split", ["c1"], ["left", "right"], axis=1, num_outputs=2),
        helper.make_node("Conv", ["right", "w2"], ["c2"]),
        helper.make_node("Relu", ["left"], ["l"]),
        helper.make_node("Concat", ["c2", "l"], ["both"], axis=1),
        helper.make_node("Transpose", ["both"], ["moved"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["moved", "w3"], ["m"]),
        helper.make_node("Add", ["m", "b3"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["f"], keepdims=0),
        helper.make_node("MatMul", ["f", "w4"], ["y"]),
    ]
    weights = [
        *(made("w1", WIDTH, 3, 1, 1), made("w2", 4, WIDTH // 2, 1, 1)),
        *(made("w3", 4 + WIDTH // 2, 10), made("b3", 10), made("w4", 10, 4)),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
    ]
    return net("concatenated", nodes, weights, 3, SIDE, SIDE)


def transformer() -> Model:
    """Normalisation, attention of one head, and two products with a ReLU between, twice added."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g1", "d1"], ["n1"], axis=-1),
        *(helper.make_node("MatMul", ["n1", f"w{one}"], [one]) for one in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["attention", "v"], ["heads"]),
        helper.make_node("MatMul", ["heads", "wo"], ["o"]),
        helper.make_node("Add", ["x", "o"], ["s1"]),
        helper.make_node("LayerNormalization", ["s1", "g2", "d2"], ["n2"], axis=-1),
        helper.make_node("MatMul", ["n2", "w1"], ["h"]),
        helper.make_node("Add", ["h", "b1"], ["hb"]),
        helper.make_node("Relu", ["hb"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["z"]),
        helper.make_node("Add", ["s1", "z"], ["y"]),
    ]
    width = 8
    weights = [
        *(made(f"w{one}", width, width) for one in "qkvo"),
        *(made("w1", width, 16), made("b1", 16), made("w2", 16, width)),
        *(
            numpy_helper.from_array(np.linspace(0.5, 2, width, dtype=np.float32), g)
            for g in ("g1", "g2")
        ),
        *(made("d1", width), made("d2", width)),
    ]
    return net("transformer", nodes, weights, TOKENS, width)


NETS: dict[str, Callable[[], Model]] = {
    one.__name__: one for one in (convolutions, residual, concatenated, transformer)
}


def feed(found: Model, count: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    shape = [count, *(dim for dim in found.signature.inputs[0].shape[1:] if dim is not None)]
    return {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}
