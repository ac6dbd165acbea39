"""Adaptive rounding: moments of what layers read, levels that keep what they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hasten.compress import Context, FoldInput, StaticInt8, apply_step
from hasten.compress.activations.layer_inputs import layer_moments, patches
from hasten.compress.activations.observation import observe
from hasten.compress.quantization.adaptive_rounding import adapted, round_adaptively, rounding_cost
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.compress.quantization.qdq_writer import quantized
from hasten.compress.quantization.rounding import RoundedWeight, quantize_weight, round_weights
from hasten.data import Preprocessing, Samples
from hasten.errors import RefusedError
from hasten.graph import Model, model_from_proto
from nets import conv_net
from onnx_models import run
from rescalable_nets import NETS, SIDE, convolutions, feed, made, net, transformer


def place(folder: Path, found: Model, count: int = 32) -> Context:
    return Context(folder, Samples(feed(found, count, seed=1)))


def held(found: Model) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in found.graph.graph.initializer}


def correlated(random: np.random.Generator, groups: int, columns: int) -> np.ndarray:
    mix = random.normal(size=(groups, columns, columns))
    return np.asarray(mix @ mix.transpose(0, 2, 1) / columns, np.float32)


# Levels


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    groups=st.integers(1, 3),
    rows=st.integers(1, 5),
    columns=st.integers(1, 80),
    peak=st.sampled_from([7, 64, 127]),
)
def test_what_the_layer_gives_is_never_further_off_than_with_nearest_levels(
    seed: int, groups: int, rows: int, columns: int, peak: int
) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(groups * rows, columns)).astype(np.float32)
    moment = correlated(random, groups, columns)
    width = {7: "w4", 64: "w7", 127: "w8"}[peak]
    nearest = RoundedWeight(*quantize_weight(weight, 0, width), 0)  # type: ignore[arg-type]
    found = adapted(weight, moment, peak, 0)
    ridged = moment + 0.01 * np.einsum("gii->g", moment)[:, None, None] / columns * np.eye(columns)
    costs = [rounding_cost(weight, ridged.astype(np.float32), one) for one in (found, nearest)]
    assert costs[0] <= costs[1] * (1 + 1e-3)
    assert np.abs(found.levels.astype(int)).max() <= peak


def test_correlated_inputs_are_rounded_to_less_than_half_of_the_error() -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=(16, 64)).astype(np.float32)
    mix = random.normal(size=(64, 8))
    moment = np.asarray(mix @ mix.T, np.float32)[np.newaxis]
    nearest = RoundedWeight(*quantize_weight(weight, 0, "w4"), 0)
    found = adapted(weight, moment, 7, 0)
    assert rounding_cost(weight, moment, found) < rounding_cost(weight, moment, nearest) / 2


def test_no_single_step_of_a_level_would_be_better() -> None:
    random = np.random.default_rng(3)
    weight = random.normal(size=(4, 12)).astype(np.float32)
    moment = correlated(random, 1, 12) + np.eye(12, dtype=np.float32)
    found = adapted(weight, moment, 7, 0)
    least = rounding_cost(weight, moment, found)
    for at in np.ndindex(4, 12):
        for step in (-1, 1):
            levels = found.levels.copy()
            levels[at] = np.clip(levels[at] + step, -7, 7)
            other = RoundedWeight(levels, found.scale, 0)
            assert rounding_cost(weight, moment, other) >= least * (1 - 0.01)


def test_a_channel_of_zeros_stays_one() -> None:
    weight = np.zeros((2, 3), np.float32)
    found = adapted(weight, np.eye(3, dtype=np.float32)[np.newaxis], 7, 0)
    assert not found.levels.any()
    assert np.all(found.scale > 0)


def test_inputs_that_are_always_zero_break_nothing() -> None:
    weight = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    found = adapted(weight, np.zeros((1, 3, 3), np.float32), 7, 0)
    assert np.isfinite(found.values).all()


# Moments


@pytest.mark.parametrize("name", NETS)
def test_patches_times_weights_are_what_a_layer_gives(name: str) -> None:
    plain = NETS[name]()
    x = feed(plain, 2)
    constants = held(plain)
    watched = Model(plain.name, all_outputs(plain), plain.signature)
    values = {**x, **run(watched, x)}
    layers = [
        node
        for node in plain.graph.graph.node
        if node.op_type in {"Conv", "Gemm", "MatMul"} and node.input[1] in constants
    ]
    assert layers
    for node in layers:
        weight = constants[node.input[1]]
        axis = 0 if node.op_type == "Conv" or is_transposed(node) else 1
        taken = patches(node, values[node.input[0]], weight.shape)
        rows = np.moveaxis(weight, axis, 0).reshape(taken.shape[0], -1, taken.shape[2])
        got = taken @ rows.transpose(0, 2, 1)
        want = values[node.output[0]]
        channels_first = node.op_type == "Conv"
        if len(node.input) > 2:
            bias = constants[node.input[2]]
            want = want - (bias[:, None, None] if channels_first else bias)
        want = np.moveaxis(want, 1, -1) if channels_first else want
        got = got.transpose(1, 0, 2).reshape(want.shape)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def is_transposed(node: onnx.NodeProto) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)


def all_outputs(found: Model) -> onnx.ModelProto:
    graph = onnx.ModelProto()
    graph.CopyFrom(found.graph)
    known = {output.name for output in graph.graph.output}
    graph.graph.output.extend(
        helper.make_tensor_value_info(name, 1, None)
        for node in graph.graph.node
        for name in node.output
        if name not in known
    )
    return graph


@pytest.mark.parametrize(
    "attributes",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"dilations": [2, 2], "pads": [2, 1, 0, 3]},
    ],
    ids=str,
)
def test_padding_and_dilation_are_those_of_the_convolution(attributes: dict[str, Any]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    plain = net("padded", [node], [made("w", 4, 3, 3, 2)], 3, 7, 8)
    x, weight = feed(plain, 2), held(plain)["w"]
    got = patches(node, x["x"], weight.shape) @ weight.reshape(1, 4, -1).transpose(0, 2, 1)
    want = np.moveaxis(run(plain, x)["y"], 1, -1)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-3, atol=1e-4)


def test_of_a_large_image_some_places_are_taken() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    taken = patches(node, np.zeros((1, 3, 64, 64), np.float32), (4, 3, 1, 1))
    assert 100 <= taken.shape[1] <= 256


def test_moments_are_means_over_all_that_was_seen(tmp_path: Path) -> None:
    plain = transformer()
    found = layer_moments(plain, place(tmp_path, plain, 5))["w1"]
    x = feed(plain, 5, seed=1)
    seen = run(Model("all", all_outputs(plain), plain.signature), x)["n2"].reshape(-1, 8)
    np.testing.assert_allclose(found.mean[0], seen.mean(axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.second[0], seen.T @ seen / len(seen), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.covariance[0], np.cov(seen.T, bias=True), rtol=0.01, atol=1e-4)


# The step


@pytest.mark.parametrize("weights", ["w4", "w7", "w8"])
@pytest.mark.parametrize("name", ["convolutions", "transformer"])
def test_the_graph_holds_the_levels_that_were_found(
    name: str, weights: str, tmp_path: Path
) -> None:
    plain = NETS[name]()
    config = StaticInt8(weights=weights, rounding="adaptive")  # type: ignore[arg-type]
    where = place(tmp_path, plain)
    got = held(apply_step(plain, config, where))
    want = round_adaptively(plain, where, config.weights, corrected=True)
    assert want
    for weight, rounded in want.items():
        np.testing.assert_array_equal(got[f"{weight}_quantized"], rounded.levels)
        np.testing.assert_array_equal(got[f"{weight}_scale"], rounded.scale)


def test_nearest_weights_of_4_bits_are_held_as_they_were_rounded(tmp_path: Path) -> None:
    plain = convolutions()
    got = held(apply_step(plain, StaticInt8(weights="w4"), place(tmp_path, plain)))
    for weight, rounded in round_weights(plain.graph, "w4").items():
        np.testing.assert_array_equal(got[f"{weight}_quantized"], rounded.levels)
        assert np.abs(rounded.levels.astype(int)).max() == 7


@pytest.mark.parametrize("bias", ["plain", "corrected"])
def test_answers_with_4_bits_are_nearer_to_float_than_with_nearest_levels(
    bias: str, tmp_path: Path
) -> None:
    plain = model_from_proto(conv_net(), "net")
    x = feed(plain, 64, seed=9)
    want, errors = run(plain, x)["y"], {}
    for rounding in ("nearest", "adaptive"):
        config = StaticInt8(weights="w4", bias=bias, rounding=rounding)  # type: ignore[arg-type]
        got = run(apply_step(plain, config, place(tmp_path, plain)), x)["y"]
        errors[rounding] = float(np.square(got - want).mean())
    assert errors["adaptive"] < errors["nearest"] / 2


def test_the_same_samples_give_the_same_levels(tmp_path: Path) -> None:
    config = StaticInt8(weights="w4", rounding="adaptive")
    plain = convolutions()
    first, second = (apply_step(plain, config, place(tmp_path, plain)).payload for _ in range(2))
    assert first == second


def test_weights_of_float_nodes_stay_exact(tmp_path: Path) -> None:
    plain = NETS["concatenated"]()
    ranges = {
        name: CALIBRATORS["minmax"](seen)
        for name, seen in observe(plain, place(tmp_path, plain)).histograms.items()
    }
    graph = type(plain.graph)()
    graph.CopyFrom(plain.graph)
    for node in graph.graph.node:
        node.name = node.output[0]
    found = quantized(graph, ranges, weights="w4", float_nodes=["c2"]).graph
    got = {one.name: numpy_helper.to_array(one) for one in found.graph.initializer}
    np.testing.assert_array_equal(got["w2"], held(plain)["w2"])
    assert np.abs(got["w1_quantized"].astype(int)).max() == 7


def test_behind_folded_pixels_layers_read_what_they_read_before(tmp_path: Path) -> None:
    declared = Preprocessing((SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3)
    where = Context(tmp_path, Samples(feed(convolutions(), 8)), {"x": declared})
    folded = apply_step(convolutions(), FoldInput(), where)
    want, got = layer_moments(convolutions(), where), layer_moments(folded, where)
    assert got.keys() == want.keys()
    np.testing.assert_array_equal(got["w1"].second, want["w1"].second)


def test_the_record_says_it_only_where_it_is_not_the_default(tmp_path: Path) -> None:
    plain = convolutions()
    adaptive = apply_step(plain, StaticInt8(rounding="adaptive"), place(tmp_path, plain))
    nearest = apply_step(plain, StaticInt8(), place(tmp_path, plain))
    assert str(adaptive.steps[-1]) == "static_int8 u8 w8 minmax corrected adaptive"
    assert str(nearest.steps[-1]) == "static_int8 u8 w8 minmax corrected"


def test_without_samples_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no calibration samples"):
        round_adaptively(convolutions(), Context(tmp_path), "w4", corrected=True)
