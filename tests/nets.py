"""A small network with samples and labels that it has learnt, so to speak: its own predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hasten.graph import model_from_proto
from onnx_models import model, run, value

SIDE = 12
CLASSES = 10


def filters(name: str, *shape: int, seed: int) -> onnx.TensorProto:
    """Weights as training leaves them: activations neither vanish nor explode."""
    random = np.random.default_rng(seed)
    scaled = random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    return numpy_helper.from_array(scaled.astype(np.float32), name)


def conv_net() -> onnx.ModelProto:
    """x[n,3,12,12] through two convolutions, a pool and a classifier to y[n,10]."""
    return model(
        [
            helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c2"], ["r2"]),
            helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w3"], ["y"], transB=1),
        ],
        [value("x", ["n", 3, SIDE, SIDE])],
        [value("y", ["n", CLASSES])],
        [
            filters("w1", 16, 3, 3, 3, seed=1),
            filters("w2", 16, 16, 3, 3, seed=2),
            filters("w3", CLASSES, 16, seed=3),
        ],
    )


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


def labels(samples: np.ndarray) -> np.ndarray:
    """What the network answers, so that it is always right."""
    outputs = run(model_from_proto(conv_net(), "net"), {"x": samples})
    return np.asarray(outputs["y"].argmax(axis=1))


def saved_net(folder: Path) -> Path:
    onnx.save(conv_net(), folder / "net.onnx")
    return folder / "net.onnx"


def saved_data(folder: Path, count: int = 48) -> Path:
    samples = images(count)
    np.savez(folder / "data.npz", x=samples, labels=labels(samples))
    return folder / "data.npz"


def null_net(path: Path, **behaviour: object) -> Path:
    """Save x[n,4] to y[n,3] for the null runtime, which plays what is named."""
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )
    helper.set_model_props(proto, {f"hasten.null.{k}": str(v) for k, v in behaviour.items()})
    onnx.save(proto, path)
    return path
