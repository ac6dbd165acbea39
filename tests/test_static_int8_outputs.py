"""Static int8 with weights that saturate on no processor: runtimes answer almost as in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

from hasten.compress import StaticInt8, apply_step
from hasten.compress.static_int8 import Calibrator
from hasten.graph import model_from_proto
from int8_net import (
    Activations,
    answers,
    constants,
    context,
    every_calibrator,
    every_dtype,
    every_runtime,
    images,
    net,
    sqnr_db,
)
from onnx_models import model, run, value

# What the written graph holds


@every_dtype
@every_runtime
def test_weights_of_7_bits_saturate_on_no_processor(
    runtime: str, activations: Activations, tmp_path: Path
) -> None:
    """Largest weights times largest activations: what an addition in 16 bits cannot hold."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
    ones = numpy_helper.from_array(np.ones((32, 64, 1, 1), np.float32), "w")
    inputs, outputs = [value("x", ["n", 64, 8, 8])], [value("y", ["n", 32, 8, 8])]
    plain = model_from_proto(model(nodes, inputs, outputs, [ones]), "full")
    feed = np.ones((4, 64, 8, 8), np.float32)
    found = apply_step(plain, StaticInt8(activations, "w7"), context(tmp_path, feed))
    got = answers(found, {"x": feed[:1]}, runtime, tmp_path)["y"]
    np.testing.assert_allclose(got, 64, rtol=0.02)


# What comes out of it, with weights that saturate on no processor


@every_dtype
@every_runtime
@every_calibrator
def test_outputs_stay_close_to_those_in_float(
    calibrator: Calibrator, runtime: str, activations: Activations, tmp_path: Path
) -> None:
    feed = {"x": images(16, seed=7)}
    found = apply_step(net(), StaticInt8(activations, "w7", calibrator), context(tmp_path))
    want, got = run(net(), feed)["y"], answers(found, feed, runtime, tmp_path)["y"]
    assert sqnr_db(want, got) > 20


@every_runtime
def test_unsigned_and_signed_activations_hold_the_same_values(runtime: str, tmp_path: Path) -> None:
    place, feed = context(tmp_path), {"x": images(16, seed=7)}
    kinds: tuple[Activations, ...] = ("u8", "s8")
    found = {kind: apply_step(net(), StaticInt8(kind, "w7"), place) for kind in kinds}
    outputs = [answers(one, feed, runtime, tmp_path)["y"] for one in found.values()]
    step = constants(found["u8"])["y_scale"]
    assert np.abs(outputs[0] - outputs[1]).max() <= step * 1.001


@every_dtype
def test_onnxruntime_and_openvino_agree(activations: Activations, tmp_path: Path) -> None:
    feed = {"x": images(16, seed=7)}
    found = apply_step(net(), StaticInt8(activations, "w7"), context(tmp_path))
    ours, theirs = (
        answers(found, feed, name, tmp_path)["y"] for name in ("onnxruntime", "openvino")
    )
    assert np.abs(ours - theirs).max() <= constants(found)["y_scale"] * 1.001
