"""A network to quantize, images for it, and what quantizing it came to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hasten.compress import Context
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from hasten.progress import Progress, Quiet
from hasten.runtimes import Arrays, Execution, get_runtime
from nets import SIDE, filters
from onnx_models import model, value

Activations = Literal["u8", "s8"]

every_dtype = pytest.mark.parametrize("activations", ["u8", "s8"])
every_runtime = pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
every_calibrator = pytest.mark.parametrize("calibrator", CALIBRATORS)


def scalar(name: str, number: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(number, np.float32), name)


def net(batch: int | str = "n") -> Model:
    """Two convolutions with ReLU6 between, a skip connection, a pool and a classifier."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c1", "zero", "six"], ["r1"], name="relu6"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["s"], name="skip"),
        helper.make_node("Relu", ["s"], ["r2"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["y"], name="head", transB=1),
    ]
    bias = numpy_helper.from_array(np.linspace(-0.5, 0.5, 16, dtype=np.float32), "b1")
    head_bias = numpy_helper.from_array(np.zeros(10, np.float32), "b3")
    weights = [
        filters("w1", 16, 3, 3, 3, seed=1),
        filters("w2", 16, 16, 3, 3, seed=2),
        filters("w3", 10, 16, seed=3),
        *(bias, head_bias, scalar("zero", 0), scalar("six", 6)),
    ]
    inputs = [value("x", [batch, 3, SIDE, SIDE])]
    return model_from_proto(model(nodes, inputs, [value("y", [batch, 10])], weights), "net")


def images(count: int = 32, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


def context(
    folder: Path, samples: np.ndarray | None = None, progress: Progress | None = None
) -> Context:
    held = Samples({"x": images() if samples is None else samples})
    return Context(folder, held, progress=progress or Quiet())


def answers(found: Model, feed: Arrays, runtime: str, folder: Path) -> Arrays:
    # With its default hint OpenVINO computes in bf16 where it can, and takes no signed inputs then.
    execution = Execution(hint="f32" if runtime == "openvino" else "default")
    opened = get_runtime(runtime)
    session = opened.open(opened.lower(found, folder), execution)
    try:
        return session.run(feed)
    finally:
        session.close()


def constants(found: Model) -> Arrays:
    return {t.name: numpy_helper.to_array(t) for t in found.graph.graph.initializer}


def sqnr_db(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(want).sum() / np.square(want - got).sum()))
