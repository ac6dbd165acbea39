"""Activations of 16 bits with weights of 8: every runtime gives what the graph says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hasten.compress import Context, StaticInt8, apply_step
from hasten.data import Samples
from hasten.graph import Model
from hasten.runtimes import Execution, get_runtime
from int8_net import sqnr_db
from onnx_models import run
from rescalable_nets import feed, residual

every_runtime = pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "litert"])


def quantized(folder: Path, activations: str = "s16") -> Model:
    place = Context(folder, Samples(feed(residual(), 32, seed=3)))
    return apply_step(residual(), StaticInt8(activations), place)  # type: ignore[arg-type]


@every_runtime
def test_answers_lose_less_than_with_8_bits(runtime: str, tmp_path: Path) -> None:
    x = feed(residual(), 32, seed=3)
    want = run(residual(), x)["y"]
    found = get_runtime(runtime)
    execution = Execution(hint="f32" if runtime == "openvino" else "default")
    session = found.open(found.lower(quantized(tmp_path), tmp_path), execution)
    try:
        got = session.run(x)["y"]
    finally:
        session.close()
    assert sqnr_db(want, got) > sqnr_db(want, run(quantized(tmp_path, "u8"), x)["y"]) + 3


def test_zero_points_are_zero_as_integer_kernels_ask(tmp_path: Path) -> None:
    from onnx import numpy_helper

    held = quantized(tmp_path).graph.graph.initializer
    points = [numpy_helper.to_array(one) for one in held if one.name.endswith("zero_point")]
    assert any(point.dtype == np.int16 for point in points)
    assert not any(point.any() for point in points)


def test_the_graph_is_plain_onnx(tmp_path: Path) -> None:
    found = quantized(tmp_path).graph
    assert {node.domain for node in found.graph.node} == {""}
