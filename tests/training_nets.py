"""What training tests have in common: images that a small network learns in seconds."""

from __future__ import annotations

import numpy as np
from onnx import helper

from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from nets import CLASSES, conv_net, filters, images
from onnx_models import model, run, value

__all__ = ["net", "right", "softmax_net", "student", "taught", "unlabelled"]


def net() -> Model:
    return model_from_proto(conv_net(), "net")


def student() -> Model:
    """A smaller network with the inputs and outputs of ``nets.conv_net``."""
    proto = model(
        [
            helper.make_node("Conv", ["x", "ws"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "wd"], ["y"], transB=1),
        ],
        [value("x", ["n", 3, 12, 12])],
        [value("y", ["n", CLASSES])],
        [filters("ws", 8, 3, 3, 3, seed=7), filters("wd", CLASSES, 8, seed=7)],
    )
    return model_from_proto(proto, "student")


def softmax_net() -> Model:
    """The network of ``nets.conv_net`` with class probabilities as its output."""
    proto = conv_net()
    proto.graph.node.append(helper.make_node("Softmax", ["y"], ["p"]))
    proto.graph.output[0].name = "p"
    return model_from_proto(proto, "probable")


def taught(count: int = 96, classes: int = 2) -> Samples:
    """Images whose class is how bright one of their channels is."""
    x, labels = images(count), np.arange(count) % classes
    x[:, 0] += labels[:, None, None]
    return Samples({"x": x}, labels)


def unlabelled(samples: Samples) -> Samples:
    return Samples(samples.arrays)


def right(one: Model, samples: Samples) -> float:
    """Share of samples whose largest output is their label."""
    outputs = next(iter(run(one, samples.arrays).values()))
    return float((outputs.argmax(1) == samples.labels).mean())
