"""Static int8 behind folded pixels: they enter as they are, and are normalised in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from hasten.compress import Context, FoldInput, StaticInt8, apply_step
from hasten.data import Preprocessing, Samples
from hasten.graph import Model, model_from_proto
from int8_net import Activations, answers, constants, every_dtype, every_runtime, net, sqnr_db
from nets import SIDE, filters
from onnx_models import model, run, value

_LITE = Preprocessing((SIDE, SIDE), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
_IMAGENET = Preprocessing((SIDE, SIDE), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
every_preprocessing = pytest.mark.parametrize("declared", [_LITE, _IMAGENET], ids=["lite", "net"])


def pixels(count: int = 16) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def folded(
    declared: Preprocessing, folder: Path, seen: np.ndarray | None = None
) -> tuple[Model, Context]:
    samples = Samples({"x": pixels() if seen is None else seen}, preprocessing={"x": declared})
    place = Context(folder, samples, preprocessing={"x": declared})
    return apply_step(net(), FoldInput(), place), place


@every_dtype
@every_runtime
@every_preprocessing
def test_a_folded_model_runs_in_int8_and_stays_close(
    declared: Preprocessing, runtime: str, activations: Activations, tmp_path: Path
) -> None:
    plain, place = folded(declared, tmp_path)
    found = apply_step(plain, StaticInt8(activations), place)
    want = run(net(), {"x": declared.apply(pixels())})["y"]
    got = answers(found, {"x": pixels()}, runtime, tmp_path)["y"]
    assert sqnr_db(want, got) > 20


def test_pixels_enter_the_integer_convolution_as_they_are(tmp_path: Path) -> None:
    plain, place = folded(_LITE, tmp_path)
    found = apply_step(plain, StaticInt8("u8"), place)
    graph = optimised(found, tmp_path)
    first = next(node for node in graph.node if "QLinearConv" in node.op_type)
    source = next(node for node in graph.node if first.input[0] in node.output)
    assert source.op_type == "Transpose"
    assert source.input[0] == "x"


@pytest.mark.parametrize("kind", ["Pad", "Split", "MaxPool"])
def test_what_passes_pixels_on_as_they_are_comes_to_an_end(kind: str, tmp_path: Path) -> None:
    """They have a scale already, which the writer would look for without end."""
    first = {
        "Pad": helper.make_node("Pad", ["x", "sizes"], ["a"]),
        "Split": helper.make_node("Split", ["x"], ["a", "rest"], axis=2, num_outputs=2),
        "MaxPool": helper.make_node("MaxPool", ["x"], ["a"], kernel_shape=[2, 2]),
    }[kind]
    sizes = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 1, 1]), "sizes")
    nodes = [first, *(helper.make_node("Conv", [at, "w"], [f"y{at}"]) for at in "ax")]
    outputs = [value(f"y{at}", ["n", 8, None, None]) for at in "ax"]
    weights = [filters("w", 8, 3, 3, 3, seed=0), sizes]
    proto = model(nodes, [value("x", ["n", 3, SIDE, SIDE])], outputs, weights)
    plain = model_from_proto(proto, "passing")
    place = Context(tmp_path, Samples({"x": pixels()}, preprocessing={"x": _LITE}), {"x": _LITE})
    found = apply_step(apply_step(plain, FoldInput(), place), StaticInt8("u8", "w7"), place)
    want, got = run(plain, {"x": _LITE.apply(pixels())}), run(found, {"x": pixels()})
    assert all(sqnr_db(want[name], got[name]) > 20 for name in want)


def optimised(found: Model, folder: Path) -> onnx.GraphProto:
    """The graph that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(found.payload, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx").graph


@every_preprocessing
def test_the_normalisation_stays_in_float(declared: Preprocessing, tmp_path: Path) -> None:
    plain, place = folded(declared, tmp_path)
    added = len(plain.graph.graph.node) - len(net().graph.graph.node)
    found = apply_step(plain, StaticInt8(), place)
    kept = {node.name for node in found.graph.graph.node}
    assert {node.name for node in plain.graph.graph.node[:added]} <= kept
    quantized = {
        node.input[0] for node in found.graph.graph.node if node.op_type == "QuantizeLinear"
    }
    assert not {name for name in quantized if name.startswith("x_pixels")}


def test_a_node_named_after_the_input_is_quantized_too(tmp_path: Path) -> None:
    plain, place = folded(_LITE, tmp_path)
    for node in plain.graph.graph.node:
        if node.name == "first":
            node.name = "x_first"
    found = apply_step(plain, StaticInt8(), place)
    assert "w1_quantized" in constants(found)


def test_the_range_of_folded_pixels_is_known_not_observed(tmp_path: Path) -> None:
    plain, place = folded(_IMAGENET, tmp_path, seen=pixels() // 4 + 100)
    held = constants(apply_step(plain, StaticInt8(), place))
    low, high = (0 - 0.485) / 0.229, (1 - 0.406) / 0.225
    assert held["x_normalised_scale"] == pytest.approx((high - low) / 255, rel=1e-5)
