"""One small network for each kind of output, and made-up pictures that it answers differently.

Weights are random, by seed; the last layer is scaled so that what it gives is spread as what a
trained one gives, which is all that judging sees of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["KINDS", "Subject", "pictures"]

Arrays = dict[str, NDArray[Any]]

_OPSET = 18
_SIDE = 32


@dataclass
class Subject:
    """A network, its samples by input name, and the outputs that its kind is about."""

    kind: str
    model: onnx.ModelProto
    samples: Arrays


def pictures(count: int, seed: int, side: int = _SIDE) -> NDArray[np.float32]:
    """Bright and dark discs on slow waves, [n, 3, side, side]."""
    random = np.random.default_rng(seed)
    across, down = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    made = np.empty((count, 3, side, side), np.float32)
    for at in range(count):
        for channel in range(3):
            waves = random.normal(0, 2, 4)
            made[at, channel] = 0.5 * np.sin(waves[0] * across + waves[1] * down + waves[2])
        for _ in range(3):
            x, y, radius, value = random.uniform((-1, -1, 0.1, -2), (1, 1, 0.5, 2))
            inside = (across - x) ** 2 + (down - y) ** 2 < radius**2
            made[at, :, inside] = value * random.uniform(0.3, 1, 3)
    return made


@dataclass
class _Net:
    """Nodes and weights of a network in the making."""

    seed: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def constant(self, values: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(values)
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def named(self, tensor: str, name: str) -> str:
        self.nodes[[node.output[0] for node in self.nodes].index(tensor)].output[0] = name
        for node in self.nodes:
            node.input[:] = [name if each == tensor else each for each in node.input]
        return name

    def conv(self, x: str, narrow: int, wide: int, kernel: int, stride: int = 1) -> str:
        shape = (wide, narrow, kernel, kernel)
        spread = np.sqrt(2 / (narrow * kernel * kernel))
        weight = self.random.normal(0, spread, shape).astype(np.float32)
        bias = self.random.normal(0, 0.1, wide).astype(np.float32)
        return self.node(
            "Conv",
            x,
            self.constant(weight),
            self.constant(bias),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )

    def features(self, x: str) -> str:
        """[n, 3, 32, 32] to [n, 32, 8, 8]."""
        for narrow, wide in ((3, 16), (16, 32)):
            x = self.node("Relu", self.conv(x, narrow, wide, 3, 2))
        return self.node("Relu", self.conv(x, 32, 32, 3))

    def dense(self, x: str, narrow: int, wide: int) -> str:
        weight = self.random.normal(0, narrow**-0.5, (narrow, wide)).astype(np.float32)
        bias = np.zeros(wide, np.float32)
        return self.node("Gemm", x, self.constant(weight), self.constant(bias))

    def shape(self, x: str, *dims: int) -> str:
        return self.node("Reshape", x, self.constant(np.array(dims, np.int64)))

    def model(
        self, inputs: Arrays, outputs: dict[str, list[Any]], batch: int | str = "n"
    ) -> onnx.ModelProto:
        taken = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *value.shape[1:]])
            for name, value in inputs.items()
        ]
        given = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
            for name, dims in outputs.items()
        ]
        constants = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "net", taken, given, constants)
        opsets = [helper.make_opsetid("", _OPSET)]
        made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.checker.check_model(made)
        return made

    def spread(self, tensor: str, wanted: float, samples: Arrays, *, centred: bool = True) -> None:
        """Scale the layer that makes a tensor so that it varies by ``wanted`` over samples."""
        end = [node.output[0] for node in self.nodes].index(tensor)
        layer = self.nodes[end]
        part = _Net(self.seed, self.nodes[: end + 1], self.weights)
        values = run(
            part.model(samples, {tensor: [None] * 4}, len(next(iter(samples.values())))), samples
        )
        found = next(iter(values.values()))
        axes = (
            (0, *range(2, found.ndim)) if layer.op_type == "Conv" else tuple(range(found.ndim - 1))
        )
        scale = wanted / found.std()
        weight, bias = layer.input[1], layer.input[2]
        self.weights[weight] = (self.weights[weight] * scale).astype(np.float32)
        mean = found.mean(axis=axes) if centred else 0.0
        self.weights[bias] = ((self.weights[bias] - mean) * scale).astype(np.float32)


def run(model: onnx.ModelProto, feed: Arrays) -> Arrays:
    """Run a model once."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def _scores(seed: int, count: int) -> Subject:
    net, samples = _Net(seed), {"image": pictures(count, seed)}
    logits = net.dense(net.shape(net.features("image"), 0, -1), 2048, 10)
    net.spread(logits, 3.0, samples)
    net.named(logits, "logits")
    return Subject("scores", net.model(samples, {"logits": ["n", 10]}), samples)


def _probabilities(seed: int, count: int) -> Subject:
    net, samples = _Net(seed), {"image": pictures(count, seed)}
    logits = net.dense(net.shape(net.features("image"), 0, -1), 2048, 10)
    net.spread(logits, 3.0, samples)
    net.named(net.node("Softmax", logits, axis=-1), "probabilities")
    return Subject("probabilities", net.model(samples, {"probabilities": ["n", 10]}), samples)


def _heads(net: _Net, image: str, samples: Arrays, classes: int) -> tuple[str, str]:
    """Boxes as centre and size in pixels of a 32x32 picture, and scores, [n, c, 8, 8] each."""
    features = net.features(image)
    place, size, scores = (net.conv(features, 32, wide, 1) for wide in (2, 2, classes))
    for head, wide in ((place, 1.0), (size, 0.7), (scores, 2.5)):
        net.spread(head, wide, samples)
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)))[None].astype(np.float32) * 4
    shifts = net.node("Mul", net.node("Sigmoid", place), net.constant(np.float32(4)))
    centres = net.node("Add", shifts, net.constant(grid))
    sizes = net.node("Mul", net.node("Exp", size), net.constant(np.float32(10)))
    less = net.node("Sub", scores, net.constant(np.float32(2)))
    return net.node("Concat", centres, sizes, axis=1), net.node("Sigmoid", less)


def _boxes_and_scores(seed: int, count: int) -> Subject:
    net, samples = _Net(seed), {"images": pictures(count, seed)}
    boxes, scores = _heads(net, "images", samples, 4)
    joined = net.shape(net.node("Concat", boxes, scores, axis=1), 0, 8, 64)
    net.named(net.node("Transpose", joined, perm=[0, 2, 1]), "output0")
    return Subject("boxes_and_scores", net.model(samples, {"output0": ["n", 64, 8]}), samples)


def _detections(seed: int, count: int) -> Subject:
    net, samples = _Net(seed), {"image": pictures(count, seed)}
    boxes, scores = _heads(net, "image", samples, 3)
    rows = net.node("Transpose", net.shape(boxes, 1, 4, 64), perm=[0, 2, 1])
    flat = net.shape(scores, 1, 3, 64)
    limits = [
        net.constant(value)
        for value in (np.array([30]), np.array([0.5], np.float32), np.array([0.3], np.float32))
    ]
    chosen = net.node("NonMaxSuppression", rows, flat, *limits, center_point_box=1)
    class_of, box_of = (
        net.node(
            "Squeeze",
            net.node("Gather", chosen, net.constant(np.array([at])), axis=1),
            net.constant(np.array([1])),
        )
        for at in (1, 2)
    )
    centre = net.node("Gather", net.shape(rows, 64, 4), box_of)
    low, size = (
        net.node("Slice", centre, *(net.constant(np.array([v])) for v in (a, b, 1)))
        for a, b in ((0, 2), (2, 4))
    )
    half = net.node("Mul", size, net.constant(np.float32(0.5)))
    corners = [net.node("Sub", low, half), net.node("Add", low, half)]
    pairs = net.node("Gather", chosen, net.constant(np.array([1, 2])), axis=1)
    score = net.node("GatherND", net.shape(flat, 3, 64), pairs)
    beside = [
        net.node("Unsqueeze", each, net.constant(np.array([1])))
        for each in (score, net.node("Cast", class_of, to=TensorProto.FLOAT))
    ]
    net.named(net.node("Concat", *corners, *beside, axis=1), "detections")
    return Subject("detections", net.model(samples, {"detections": ["found", 6]}, 1), samples)


def _mask(seed: int, count: int) -> Subject:
    net, samples = _Net(seed), {"image": pictures(count, seed)}
    x = net.node("Relu", net.conv("image", 3, 16, 3))
    logits = net.conv(net.node("Relu", net.conv(x, 16, 16, 3)), 16, 4, 3)
    net.spread(logits, 3.0, samples)
    net.named(logits, "mask")
    return Subject("mask", net.model(samples, {"mask": ["n", 4, 32, 32]}), samples)


def _sequence(seed: int, count: int) -> Subject:
    net, samples = _Net(seed), {"image": pictures(count, seed)}
    x = net.node("Relu", net.conv("image", 3, 16, 3))
    x = net.node("Relu", net.conv(x, 16, 4, 3))
    columns = net.node("Transpose", net.shape(x, 0, 128, 32), perm=[2, 0, 1])
    weight = net.random.normal(0, 128**-0.5, (128, 12)).astype(np.float32)
    product = net.node("MatMul", columns, net.constant(weight))
    logits = net.node("Add", product, net.constant(np.zeros(12, np.float32)))
    net.named(logits, "logits")
    made = net.model(samples, {"logits": [32, "n", 12]})
    told = run(made, samples)["logits"]
    net.weights[net.nodes[-1].input[1]] = -told.mean(axis=(0, 1))
    return Subject("sequence", net.model(samples, {"logits": [32, "n", 12]}), samples)


def _embedding(seed: int, count: int) -> Subject:
    net, samples = _Net(seed), {"image": pictures(count, seed)}
    rows = net.dense(net.shape(net.features("image"), 0, -1), 2048, 64)
    net.spread(rows, 1.0, samples)
    lengths = net.node("ReduceL2", rows, net.constant(np.array([1])), keepdims=1)
    net.named(net.node("Div", rows, lengths), "embedding")
    return Subject("embedding", net.model(samples, {"embedding": ["n", 64]}), samples)


def _regression(seed: int, count: int) -> Subject:
    net, samples = _Net(seed), {"image": pictures(count, seed)}
    rows = net.dense(net.shape(net.features("image"), 0, -1), 2048, 3)
    net.spread(rows, 1.0, samples)
    units = net.node("Mul", rows, net.constant(np.array([100, 1, 0.05], np.float32)))
    offsets = net.constant(np.array([400, 3, -7], np.float32))
    net.named(net.node("Add", units, offsets), "pose")
    return Subject("regression", net.model(samples, {"pose": ["n", 3]}), samples)


#: Makes a subject of a kind from a seed and the number of its samples.
KINDS: dict[str, Callable[[int, int], Subject]] = {
    "scores": _scores,
    "probabilities": _probabilities,
    "boxes_and_scores": _boxes_and_scores,
    "detections": _detections,
    "mask": _mask,
    "sequence": _sequence,
    "embedding": _embedding,
    "regression": _regression,
}
