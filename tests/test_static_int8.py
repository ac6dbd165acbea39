"""Static int8: what the QDQ writer makes of ranges and weights."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from hasten.compress import StaticInt8, apply_step
from hasten.compress.activations.observation import observe
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.compress.static_int8 import Calibrator
from hasten.graph import model_from_proto, read_onnx, write_onnx
from int8_net import (
    Activations,
    constants,
    context,
    every_calibrator,
    every_dtype,
    images,
    net,
    scalar,
    sqnr_db,
)
from nets import SIDE, filters
from onnx_models import model, run, value


@every_calibrator
@every_dtype
def test_ranges_of_the_calibrator_are_the_scales_of_the_graph(
    calibrator: Calibrator, activations: Activations, tmp_path: Path
) -> None:
    place = context(tmp_path)
    held = constants(apply_step(net(), StaticInt8(activations, calibrator=calibrator), place))
    seen = observe(net(), place).histograms
    # A Flatten shares the scale of its input.
    for name in seen.keys() - {"flat"}:
        found = CALIBRATORS[calibrator](seen[name])
        assert held[f"{name}_scale"] == pytest.approx((found.high - found.low) / 255, rel=1e-6)


@every_dtype
def test_zero_points_put_zero_where_the_range_has_it(
    activations: Activations, tmp_path: Path
) -> None:
    held = constants(apply_step(net(), StaticInt8(activations), context(tmp_path)))
    assert held["r1_zero_point"] == {"u8": 0, "s8": -128}[activations]
    assert held["r1_zero_point"].dtype == {"u8": np.uint8, "s8": np.int8}[activations]


def test_weights_have_a_scale_for_each_channel_of_output(tmp_path: Path) -> None:
    held = constants(apply_step(net(), StaticInt8(), context(tmp_path)))
    for name, axes in {"w1": (1, 2, 3), "w2": (1, 2, 3), "w3": (1,)}.items():
        peak = np.abs(constants(net())[name]).max(axis=axes)
        np.testing.assert_allclose(held[f"{name}_scale"], peak / 127, rtol=1e-5)
        assert held[f"{name}_quantized"].dtype == np.int8
        assert not held[f"{name}_zero_point"].any()


def test_weights_of_7_bits_leave_one_unused(tmp_path: Path) -> None:
    held = constants(apply_step(net(), StaticInt8(weights="w7"), context(tmp_path)))
    for name, axes in {"w1": (1, 2, 3), "w2": (1, 2, 3), "w3": (1,)}.items():
        peak = np.abs(constants(net())[name]).max(axis=axes)
        np.testing.assert_allclose(held[f"{name}_scale"], peak / 64, rtol=1e-5)
        assert np.abs(held[f"{name}_quantized"].astype(int)).max() == 64


def test_the_width_of_weights_leaves_activations_alone(tmp_path: Path) -> None:
    place = context(tmp_path)
    wide, narrow = (
        constants(apply_step(net(), StaticInt8(weights=width), place)) for width in ("w8", "w7")
    )
    for name in ("x", "r1", "c2", "r2", "y"):
        assert narrow[f"{name}_scale"] == wide[f"{name}_scale"]


def test_relu_and_clip_leave_the_graph_their_range_does_the_same(tmp_path: Path) -> None:
    found = apply_step(net(), StaticInt8(), context(tmp_path))
    assert not {"Relu", "Clip"} & {node.op_type for node in found.graph.graph.node}


@every_dtype
@pytest.mark.parametrize("bounds", [(2.0, 6.0), (-3.0, -1.0)])
def test_a_clip_whose_bounds_leave_zero_out_stays(
    bounds: tuple[float, float], activations: Activations, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"]),
        helper.make_node("Clip", ["c", "low", "high"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"]),
    ]
    weights = [filters("w1", 8, 3, 1, 1, seed=1), filters("w2", 4, 8, 1, 1, seed=2)]
    weights += [scalar("low", bounds[0]), scalar("high", bounds[1])]
    inputs, outputs = [value("x", ["n", 3, SIDE, SIDE])], [value("y", ["n", 4, SIDE, SIDE])]
    plain = model_from_proto(model(nodes, inputs, outputs, weights), "bounded")
    found = apply_step(plain, StaticInt8(activations, "w7"), context(tmp_path))
    want, got = run(plain, {"x": images()})["y"], run(found, {"x": images()})["y"]
    assert sqnr_db(want, got) > 25


@every_dtype
def test_an_output_that_a_relu_reads_keeps_its_negative_values(
    activations: Activations, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"]),
    ]
    weights = [filters("w1", 8, 3, 1, 1, seed=1), filters("w2", 4, 8, 1, 1, seed=2)]
    outputs = [value(name, ["n", None, SIDE, SIDE]) for name in ("y", "c")]
    proto = model(nodes, [value("x", ["n", 3, SIDE, SIDE])], outputs, weights)
    plain = model_from_proto(proto, "two outputs")
    found = apply_step(plain, StaticInt8(activations, "w7"), context(tmp_path))
    want, got = run(plain, {"x": images()}), run(found, {"x": images()})
    assert sqnr_db(want["c"], got["c"]) > 25


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    config = StaticInt8(calibrator="entropy")
    first, second = (apply_step(net(), config, context(tmp_path)).payload for _ in range(2))
    assert first == second


def test_the_graph_can_be_written_and_read_again(tmp_path: Path) -> None:
    quantized = apply_step(net(), StaticInt8(), context(tmp_path))
    write_onnx(quantized, tmp_path / "quantized.onnx")
    assert read_onnx(tmp_path / "quantized.onnx").signature == quantized.signature


def test_the_given_model_is_left_as_it_was(tmp_path: Path) -> None:
    plain = net()
    before = plain.graph.SerializeToString(deterministic=True)
    apply_step(plain, StaticInt8(), context(tmp_path))
    assert plain.graph.SerializeToString(deterministic=True) == before


def test_a_graph_of_an_older_opset_is_lifted(tmp_path: Path) -> None:
    proto = net().graph
    proto.opset_import[0].version = 11
    old = model_from_proto(proto, "old")
    found = apply_step(old, StaticInt8(weights="w7"), context(tmp_path))
    assert [opset.version for opset in found.graph.opset_import if not opset.domain] == [13]
    want, got = run(old, {"x": images()})["y"], run(found, {"x": images()})["y"]
    assert sqnr_db(want, got) > 20


def test_the_log_of_the_application_is_left_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    apply_step(net(), StaticInt8(), context(tmp_path))
    assert (root.level, list(root.handlers)) == before
