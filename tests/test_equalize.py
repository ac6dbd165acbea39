"""Equalization: the function stays, the channels become alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hasten.compress import Context, Equalize, FoldInput, StaticInt8, apply_step
from hasten.compress.equalize import equalizing_scales
from hasten.compress.rescaling.scaling import ChannelScaling
from hasten.data import Preprocessing, Samples
from hasten.errors import RefusedError
from hasten.graph import Model, model_from_proto
from int8_net import constants
from onnx_models import branching, run, value
from rescalable_nets import NETS, SIDE, convolutions, feed, made, net, residual

every_net = pytest.mark.parametrize("name", NETS)


def equalized(found: Model, folder: Path) -> Model:
    return apply_step(found, Equalize(), Context(folder))


def hostile(found: Model, seed: int, spread: float = 4.0) -> Model:
    """The same function, with each channel that may be scaled scaled at random."""
    scaling = ChannelScaling(found.graph)
    random = np.random.default_rng(seed)
    scales = np.exp(np.where(scaling.free, random.uniform(-spread, spread, scaling.flow.size), 0))
    return model_from_proto(scaling.rescaled(scales), found.name)


def relative_error(want: np.ndarray, got: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@every_net
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_any_scales_of_free_channels_leave_the_function_alone(name: str, seed: int) -> None:
    plain = NETS[name]()
    x = feed(plain, seed=seed)
    assert relative_error(run(plain, x)["y"], run(hostile(plain, seed), x)["y"]) < 1e-4


@every_net
def test_the_float_function_stays_the_same(name: str, tmp_path: Path) -> None:
    plain = NETS[name]()
    x = feed(plain, 16)
    assert relative_error(run(plain, x)["y"], run(equalized(plain, tmp_path), x)["y"]) < 1e-4


@every_net
def test_makers_and_readers_of_a_channel_are_equally_large(name: str) -> None:
    scaling = ChannelScaling(NETS[name]().graph)
    scales = equalizing_scales(scaling)
    made_by, read_by = scaling.produced(scales), scaling.consumed(scales)
    np.testing.assert_allclose(made_by[scaling.free], read_by[scaling.free], rtol=0.01)


@every_net
def test_equalizing_undoes_a_hostile_rescaling(name: str, tmp_path: Path) -> None:
    plain = NETS[name]()
    want = constants(equalized(plain, tmp_path))
    for held, got in constants(equalized(hostile(plain, 3), tmp_path)).items():
        np.testing.assert_allclose(got, want[held], rtol=0.05, atol=1e-4 * np.abs(want[held]).max())


def test_int8_of_a_hostile_network_is_saved(tmp_path: Path) -> None:
    bad, x = hostile(convolutions(), 1), feed(convolutions(), 64)
    want = run(bad, x)["y"]

    def error(found: Model) -> float:
        place = Context(tmp_path, Samples(x))
        got = run(apply_step(found, StaticInt8(weights="w7"), place), x)["y"]
        return float(np.square(got - want).mean() / np.square(want).mean())

    assert error(equalized(bad, tmp_path)) < error(bad) / 10


def test_the_channels_of_every_kind_of_layer_are_free() -> None:
    scaling = ChannelScaling(convolutions().graph)
    free = [scaling.free[scaling.flow.classes(one.target)].all() for one in scaling.flow.linears]
    assert free == [True, True, True, True, False]


def test_residual_sums_tie_channels_together() -> None:
    flow = ChannelScaling(residual().graph).flow
    made_by = {one.node.output[0]: flow.classes(one.target) for one in flow.linears}
    np.testing.assert_array_equal(made_by["c1"], made_by["c2"])
    np.testing.assert_array_equal(made_by["c1"], made_by["c5"])
    assert not made_by["c4"].any()  # a sigmoid reads it


@pytest.mark.parametrize("kind", ["Sigmoid", "Clip", "Tanh", "Softmax"])
def test_channels_stay_where_a_factor_does_not_pass(kind: str, tmp_path: Path) -> None:
    limits = ["zero", "six"] if kind == "Clip" else []
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"]),
        helper.make_node(kind, ["c1", *limits], ["a1"]),
        helper.make_node("Conv", ["a1", "w2"], ["y"]),
    ]
    ends = [
        numpy_helper.from_array(np.array(end, np.float32), n)
        for end, n in ((0, "zero"), (6, "six"))
    ]
    weights = [made("w1", 4, 3, 1, 1), made("w2", 4, 4, 1, 1), *ends]
    with pytest.raises(RefusedError, match="nothing to equalize"):
        equalized(net(kind, nodes, weights, 3, SIDE, SIDE), tmp_path)


def test_a_channel_that_is_an_output_keeps_its_scale(tmp_path: Path) -> None:
    proto = convolutions().graph
    proto.graph.output.append(value("r2", ["n", 6, SIDE, SIDE]))
    plain = model_from_proto(proto, "two outputs")
    found, x = equalized(plain, tmp_path), feed(plain)
    assert relative_error(run(plain, x)["r2"], run(found, x)["r2"]) < 1e-4


def shared(what: str) -> Model:
    """Two branches that share a weight or a bias."""
    names = {"w": ["w", "w"], "b": ["b1", "b2"], what: [what, what]}
    if what == "b":
        names["w"] = ["w1", "w2"]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["f"]),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("Conv", ["r", names["w"][0], names["b"][0]], ["c"]),
        helper.make_node("Relu", ["c"], ["rc"]),
        helper.make_node("Conv", ["rc", names["w"][1], names["b"][1]], ["d"]),
        helper.make_node("Relu", ["d"], ["rd"]),
        helper.make_node("Conv", ["rd", "last"], ["y"]),
    ]
    weights = [made("first", 4, 3, 1, 1), made("last", 2, 4, 1, 1)]
    weights += [made(name, 4, 4, 1, 1) for name in dict.fromkeys(names["w"])]
    weights += [made(name, 4) for name in dict.fromkeys(names["b"])]
    return net(f"shared {what}", nodes, weights, 3, SIDE, SIDE)


def test_a_bias_that_all_tokens_share_stays_one_and_shapes_can_be_inferred(tmp_path: Path) -> None:
    """The axis of tokens counts as channels too, and none of its channels moves."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    weights = [made("w", 6, 8), made("b", 8), made("v", 8, 3)]
    found = net("tokens", nodes, weights, 5, 6)
    found.graph.graph.value_info.append(value("b", [8]))
    given = {"x": np.ones((1, 5, 6), np.float32)}
    equal = equalized(found, tmp_path)
    assert constants(equal)["b"].shape == (8,)
    onnx.shape_inference.infer_shapes(equal.graph)
    np.testing.assert_allclose(run(equal, given)["y"], run(found, given)["y"], rtol=1e-4)


def test_weights_that_two_layers_share_stay_shared(tmp_path: Path) -> None:
    found = shared("w")
    with pytest.raises(RefusedError, match="nothing to equalize"):
        equalized(found, tmp_path)


def test_a_bias_that_two_layers_share_is_scaled_for_each_apart(tmp_path: Path) -> None:
    plain = shared("b")
    found, x = equalized(plain, tmp_path), feed(plain)
    assert relative_error(run(plain, x)["y"], run(found, x)["y"]) < 1e-4
    assert "b" not in constants(found)


def test_a_dead_channel_keeps_its_scale(tmp_path: Path) -> None:
    plain = convolutions()
    (weight,) = [held for held in plain.graph.graph.initializer if held.name == "w1"]
    (bias,) = [held for held in plain.graph.graph.initializer if held.name == "b1"]
    for held in (weight, bias):
        values = numpy_helper.to_array(held).copy()
        values[2] = 0
        held.CopyFrom(numpy_helper.from_array(values, held.name))
    got = constants(equalized(plain, tmp_path))
    assert all(np.isfinite(values).all() for values in got.values())


def test_the_graph_stays_valid_and_the_given_one_as_it_was(tmp_path: Path) -> None:
    plain = residual()
    before = plain.graph.SerializeToString(deterministic=True)
    found = equalized(plain, tmp_path)
    onnx.checker.check_model(found.graph, full_check=True)
    assert plain.graph.SerializeToString(deterministic=True) == before
    assert [str(step) for step in found.steps] == ["equalize"]


def test_equalized_behind_folded_pixels_it_can_be_calibrated(tmp_path: Path) -> None:
    declared = Preprocessing((SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3)
    x = feed(convolutions(), 8)
    place = Context(tmp_path, Samples(x), {"x": declared})
    folded = apply_step(convolutions(), FoldInput(), place)
    found = apply_step(apply_step(folded, Equalize(), place), StaticInt8(), place)
    assert [step.step for step in found.steps] == ["fold_input", "equalize", "static_int8"]


def test_control_flow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="equalization takes no control flow"):
        equalized(model_from_proto(branching(), "branching"), tmp_path)


def test_a_quantized_graph_is_refused(tmp_path: Path) -> None:
    x = feed(convolutions(), 4)
    found = apply_step(convolutions(), StaticInt8(), Context(tmp_path, Samples(x)))
    with pytest.raises(RefusedError, match="nothing to equalize"):
        equalized(found, tmp_path)
