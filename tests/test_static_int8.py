"""Static int8: which tensors are watched, and what the QDQ writer makes of their ranges."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.compress import Context, FoldInput, StaticInt8, apply_step
from hasten.compress.activations.observation import observe
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.compress.static_int8 import Calibrator
from hasten.compress.step import Observation
from hasten.data import Preprocessing, Samples
from hasten.errors import RefusedError
from hasten.graph import Model, model_from_proto, read_onnx, write_onnx
from hasten.progress import Advance, Progress, Quiet
from hasten.runtimes import Arrays, Execution, get_runtime
from onnx_models import branching, linear, model, run, value

Activations = Literal["u8", "s8"]

every_dtype = pytest.mark.parametrize("activations", ["u8", "s8"])
every_runtime = pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
every_calibrator = pytest.mark.parametrize("calibrator", CALIBRATORS)

_SIDE = 12


def filters(name: str, *shape: int, seed: int) -> onnx.TensorProto:
    """Weights as training leaves them: activations neither vanish nor explode."""
    random = np.random.default_rng(seed)
    fan_in = np.prod(shape[1:])
    return numpy_helper.from_array(
        (random.normal(size=shape) * np.sqrt(2 / fan_in)).astype(np.float32), name
    )


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
    inputs = [value("x", [batch, 3, _SIDE, _SIDE])]
    return model_from_proto(model(nodes, inputs, [value("y", [batch, 10])], weights), "net")


def images(count: int = 32, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, _SIDE, _SIDE)).astype(np.float32)


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


class Stages:
    """Progress that remembers its stages."""

    def __init__(self) -> None:
        self.total: dict[str, int | None] = {}
        self.done: dict[str, list[int]] = {}

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:
        self.total[title] = total
        self.done[title] = [*self.done.get(title, []), 0]

        def advance(amount: int) -> None:
            self.done[title][-1] += amount

        yield advance


# What the written graph holds


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
    inputs, outputs = [value("x", ["n", 3, _SIDE, _SIDE])], [value("y", ["n", 4, _SIDE, _SIDE])]
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
    outputs = [value(name, ["n", None, _SIDE, _SIDE]) for name in ("y", "c")]
    proto = model(nodes, [value("x", ["n", 3, _SIDE, _SIDE])], outputs, weights)
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


# Folded pixels


_LITE = Preprocessing((_SIDE, _SIDE), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
_IMAGENET = Preprocessing((_SIDE, _SIDE), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
every_preprocessing = pytest.mark.parametrize("declared", [_LITE, _IMAGENET], ids=["lite", "net"])


def pixels(count: int = 16) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, _SIDE, _SIDE, 3), np.uint8)


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


# Observing


def test_tensors_that_the_writer_takes_out_are_not_watched(tmp_path: Path) -> None:
    watched = set(observe(net(), context(tmp_path)).histograms)
    assert watched == {"x", "r1", "c2", "r2", "pooled", "flat", "y"}


@every_dtype
def test_ranges_of_what_is_not_watched_would_change_nothing(
    activations: Activations, tmp_path: Path
) -> None:
    place, plain = context(tmp_path), net()
    found = apply_step(plain, StaticInt8(activations), place)
    seen = place.observations[plain.digest]
    of_x = seen.histograms["x"]
    more = {**seen.histograms, "c1": of_x, "s": of_x}
    place.observations[plain.digest] = Observation(more, seen.means)
    assert apply_step(plain, StaticInt8(activations), place).payload == found.payload


def test_observing_a_model_again_costs_nothing(tmp_path: Path) -> None:
    stages = Stages()
    place = context(tmp_path, progress=stages)
    calibrators: tuple[Calibrator, ...] = ("minmax", "mse")
    for calibrator in calibrators:
        apply_step(net(), StaticInt8("u8", calibrator=calibrator), place)
    assert stages.done == {"calibrating": [32]}


def test_progress_counts_samples_also_where_the_batch_is_fixed(tmp_path: Path) -> None:
    stages = Stages()
    observe(net(batch=8), context(tmp_path, images(10), progress=stages))
    assert stages.total == {"calibrating": 10}
    assert stages.done == {"calibrating": [10]}


def test_progress_counts_samples_where_each_has_several_rows(tmp_path: Path) -> None:
    stages = Stages()
    rows = images(12).reshape(6, 2, 3, _SIDE, _SIDE)
    observe(net(), context(tmp_path, rows, progress=stages))
    assert stages.done == {"calibrating": [6]}


def test_rows_that_only_fill_a_fixed_batch_are_not_counted(tmp_path: Path) -> None:
    fixed = observe(net(batch=8), context(tmp_path, images(10))).histograms
    free = observe(net(), context(tmp_path, images(10))).histograms
    for name, seen in free.items():
        assert fixed[name].total == seen.total
    np.testing.assert_array_equal(fixed["x"].counts, free["x"].counts)


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    peaks = []
    for count in (8, 64):
        place = context(tmp_path, images(count))
        observe(net(), context(tmp_path, images(2)))
        tracemalloc.start()
        observe(net(), place)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1


def test_nothing_stays_in_the_scratch_folder(tmp_path: Path) -> None:
    apply_step(net(), StaticInt8(), context(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_log_of_the_application_is_left_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    apply_step(net(), StaticInt8(), context(tmp_path))
    assert (root.level, list(root.handlers)) == before


# Refusals


def reason(found: Model, place: Context) -> str:
    with pytest.raises(RefusedError) as refused:
        apply_step(found, StaticInt8(), place)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_without_samples_it_is_refused(tmp_path: Path) -> None:
    assert "needs calibration samples" in reason(net(), Context(tmp_path))


def test_control_flow_is_refused(tmp_path: Path) -> None:
    found = model_from_proto(branching(), "branching")
    assert "takes no control flow or sequences: If" in reason(found, context(tmp_path))


def test_a_graph_without_weights_is_refused(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Relu", ["x"], ["y"])], [value("x", ["n", 4])], [value("y", ["n", 4])]
    )
    found = model_from_proto(proto, "relu")
    assert "no convolution or matrix product" in reason(found, context(tmp_path))


def test_a_quantized_graph_is_refused(tmp_path: Path) -> None:
    found = apply_step(net(), StaticInt8(), context(tmp_path))
    assert "no convolution or matrix product" in reason(found, context(tmp_path))


def test_a_tflite_file_is_refused(tmp_path: Path) -> None:
    found = Model("lite", b"TFL3", net().signature)
    assert ".tflite runs as it is" in reason(found, context(tmp_path))


def test_an_activation_that_overflows_is_refused_by_name(tmp_path: Path) -> None:
    place = Context(tmp_path, Samples({"x": np.full((2, 4), 3e38, np.float32)}))
    message = reason(model_from_proto(linear(), "linear"), place)
    assert "NaN or infinite - at y" in message


def test_what_the_writer_cannot_take_is_refused(tmp_path: Path) -> None:
    place = context(tmp_path)
    place.observations[net().digest] = Observation({}, {})
    assert "QDQ writer failed" in reason(net(), place)


def test_half_precision_weights_are_refused(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.ones((8, 4), np.float16), "w")
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 8], TensorProto.FLOAT16)],
        [value("y", ["n", 4], TensorProto.FLOAT16)],
        [half],
    )
    assert "no convolution or matrix product" in reason(
        model_from_proto(proto, "half"), context(tmp_path)
    )
