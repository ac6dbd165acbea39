"""Whole .tflite models in the graph: the same numbers, layouts, integers, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from hasten.compress import Context, StaticInt8, WeightInt8, apply_step
from hasten.data import Samples, load_samples
from hasten.errors import RefusedError, RuntimeFailureError
from hasten.graph import Model, model_from_proto, read_tflite
from hasten.graph.tflite import import_program, read_program
from hasten.runtimes import Execution, get_runtime
from hasten.runtimes.litert.lowering import lower_graph
from hasten.tune.space import home_runtime
from hasten.worker.process import Worker
from nets import conv_net, images, saved_data
from onnx_models import model, run, value, weight
from tflite_operators import File, imported, interpreted, recomputed

QUANTIZED: dict[str, Any] = {"dtype": "int8", "scale": [0.05], "zero_point": [-3]}


def chain() -> onnx.ModelProto:
    """Convolutions with everything between them that computes on images as they are."""
    return model(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["b", "c"], ["d"]),
            helper.make_node("Mul", ["d", "scale"], ["e"]),
            helper.make_node("Concat", ["e", "b"], ["f"], axis=1),
            helper.make_node("Sigmoid", ["f"], ["g"]),
            helper.make_node("Conv", ["g", "w3"], ["h"]),
            helper.make_node("GlobalAveragePool", ["h"], ["i"]),
            helper.make_node("Flatten", ["i"], ["y"]),
        ],
        [value("x", ["n", 3, 8, 8])],
        [value("y", ["n", 4])],
        [
            weight("w1", 4, 3, 3, 3),
            weight("w2", 4, 4, 3, 3),
            weight("w3", 4, 8, 1, 1),
            weight("scale", 4, 1, 1),
        ],
    )


def read(folder: Path, content: bytes) -> Model:
    (folder / "net.tflite").write_bytes(content)
    return read_tflite(folder / "net.tflite")


# Floats


@pytest.mark.parametrize("net", [conv_net, chain])
def test_a_net_that_was_lowered_comes_back_with_the_same_outputs(net: object) -> None:
    assert callable(net)
    proto = net()
    size = proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    feed = {"x": np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)}
    found = recomputed(lower_graph(proto).content, feed)
    expected = run(model_from_proto(proto, "net"), feed)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-4, atol=1e-5)


def test_a_free_batch_stays_free(tmp_path: Path) -> None:
    net = read(tmp_path, lower_graph(conv_net()).content)
    assert net.signature.inputs[0].shape == (None, 3, 12, 12)
    assert net.signature.outputs[0].shape == (None, 10)
    feed = {"x": images(5)}
    found = run(net, feed)
    expected = run(model_from_proto(conv_net(), "net"), feed)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-4, atol=1e-5)


def test_no_transpose_is_left_between_convolutions() -> None:
    graph = imported(lower_graph(chain()).content).graph
    assert Counter(node.op_type for node in graph.node)["Transpose"] <= 1


def test_an_input_keeps_its_shape_and_its_name_with_channels_last() -> None:
    content = lower_graph(chain(), channels_last=frozenset({"x"})).content
    proto = imported(content)
    dims = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    assert (proto.graph.input[0].name, dims[1:]) == ("x", [8, 8, 3])
    assert proto.graph.node[0].op_type == "Transpose"


def test_weights_in_float16_are_computed_in_float32() -> None:
    file = File()
    x, held = file.input("x", (2, 3)), file.constant(np.ones((4, 3)) * 0.1, "float16")
    wide, y = file.tensor("wide", (4, 3)), file.tensor("y", (2, 4))
    file.operator("DEQUANTIZE", [held], [wide], "DequantizeOptions")
    file.operator("FULLY_CONNECTED", [x, wide], [y], "FullyConnectedOptions")
    content = file.output(y)
    feed = {"x": np.ones((2, 3), np.float32)}
    assert [tensor.data_type for tensor in imported(content).graph.initializer] == [
        TensorProto.FLOAT
    ]
    np.testing.assert_allclose(
        recomputed(content, feed)["y"], interpreted(content, feed)["y"], 1e-4
    )


def test_int8_weights_behind_dequantize_stay_int8() -> None:
    file = File()
    x = file.input("x", (2, 3))
    held = file.constant(np.arange(12).reshape(4, 3), "int8", scale=[0.1, 0.2, 0.3, 0.4])
    wide, y = file.tensor("wide", (4, 3)), file.tensor("y", (2, 4))
    file.operator("DEQUANTIZE", [held], [wide], "DequantizeOptions")
    file.operator("FULLY_CONNECTED", [x, wide], [y], "FullyConnectedOptions")
    proto = imported(file.output(y))
    assert TensorProto.INT8 in {tensor.data_type for tensor in proto.graph.initializer}
    found = recomputed(file.output(y), {"x": np.ones((2, 3), np.float32)})["y"]
    np.testing.assert_allclose(found[0], [0.3, 2.4, 6.3, 12.0], rtol=1e-5)


def test_operators_that_quantize_while_they_run_are_noted() -> None:
    file = File()
    x, y = file.input("x", (2, 3)), file.tensor("y", (2, 4))
    held = file.constant(np.arange(12).reshape(4, 3), "int8", scale=[0.1])
    file.operator("FULLY_CONNECTED", [x, held], [y], "FullyConnectedOptions")
    content = file.output(y)
    program = read_program(content)
    import_program(program, "net", len(content))
    assert program.notes[0].startswith("1 operators of the .tflite quantize their input")


# Integers


def int8_conv(bits: int = 8) -> bytes:
    file, random, top = File(), np.random.default_rng(0), 2 ** (bits - 1) - 1
    x = file.input("x", (1, 8, 8, 4), **QUANTIZED)
    scales = [0.01, 0.02, 0.03, 0.015, 0.01]
    w = file.constant(random.integers(-top, top + 1, (5, 3, 3, 4)), "int8", scale=scales)
    products = [0.05 * scale for scale in scales]
    b = file.constant(random.integers(-900, 900, 5), "int32", scale=products)
    conv = file.tensor("conv", (1, 8, 8, 5), dtype="int8", scale=[0.03], zero_point=[-128])
    options = {"padding": 0, "strideH": 1, "strideW": 1, "fusedActivationFunction": 1}
    file.operator("CONV_2D", [x, w, b], [conv], "Conv2DOptions", options)
    pooled = file.tensor("pooled", (1, 5), dtype="int8", scale=[0.02], zero_point=[-100])
    axes = file.constant([1, 2], "int32")
    file.operator("MEAN", [conv, axes], [pooled], "ReducerOptions", {"keepDims": False})
    return file.output(conv, pooled)


@pytest.mark.parametrize(("bits", "fused"), [(8, False), (7, True)])
def test_int8_comes_back_within_a_step(bits: int, *, fused: bool) -> None:
    content = int8_conv(bits)
    codes = np.random.default_rng(1).integers(-128, 128, (1, 8, 8, 4)).astype(np.int8)
    feed = {"x": codes}
    expected, found = interpreted(content, feed), recomputed(content, feed, fused=fused)
    for name, want in expected.items():
        assert found[name].dtype == want.dtype
        steps = np.abs(found[name].astype(int) - want.astype(int))
        assert np.mean(steps <= 1) >= 0.999


def test_int8_is_written_in_pairs_that_onnx_runtime_fuses(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(imported(int8_conv()).SerializeToString(), options)
    kinds = {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node}
    assert {"QLinearConv", "QLinearGlobalAveragePool"} <= kinds
    assert not {"Conv", "Relu", "GlobalAveragePool"} & kinds


def test_an_activation_that_the_integers_imply_is_left_out() -> None:
    assert "Relu" not in {node.op_type for node in imported(int8_conv()).graph.node}


def test_unsigned_integers_of_old_files_are_pairs_too() -> None:
    file = File()
    scale: dict[str, Any] = {"dtype": "uint8", "scale": [0.1], "zero_point": [120]}
    x, z = file.input("x", (2, 8), **scale), file.input("z", (2, 8), **scale)
    y = file.tensor("y", (2, 8), dtype="uint8", scale=[0.2], zero_point=[128])
    file.operator("ADD", [x, z], [y], "AddOptions")
    content, random = file.output(y), np.random.default_rng(0)
    feed = {name: random.integers(0, 256, (2, 8)).astype(np.uint8) for name in ("x", "z")}
    expected, found = interpreted(content, feed)["y"], recomputed(content, feed)["y"]
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


# What is refused


def test_everything_without_an_equal_is_named_at_once() -> None:
    file = File()
    x = file.input("x", (4,))
    first, second, y = (file.tensor(name, (4,)) for name in ("first", "second", "y"))
    file.operator("CUSTOM", [x], [first])
    file.model.operatorCodes[0].customCode = "MyDetector"
    file.operator("RIGHT_SHIFT", [x, x], [second])
    file.operator("ADD", [first, second], [y], "AddOptions")
    with pytest.raises(RefusedError) as refused:
        imported(file.output(y))
    assert str(refused.value) == (
        "no ONNX equal of: CUSTOM 'MyDetector' (operator 0, first);"
        " RIGHT_SHIFT (operator 1, second)"
    )


@pytest.mark.parametrize("kind", ["IF", "WHILE", "CALL_ONCE", "READ_VARIABLE"])
def test_control_flow_and_variables_are_refused(kind: str) -> None:
    file = File()
    x, y = file.input("x", (4,)), file.tensor("y", (4,))
    file.operator(kind, [x], [y])
    with pytest.raises(RefusedError, match=rf"{kind} \(operator 0, y\)"):
        imported(file.output(y))


def test_a_variable_tensor_is_refused() -> None:
    file = File()
    x, y = file.input("x", (4,)), file.tensor("y", (4,))
    state = file.tensor("state", (4,))
    file.graph.tensors[state].isVariable = True
    file.operator("ADD", [x, state], [y], "AddOptions")
    with pytest.raises(RefusedError, match=r"ADD .*: state is a variable"):
        imported(file.output(y))


def test_a_shape_that_the_file_contradicts_is_refused() -> None:
    file = File()
    x, y = file.input("x", (4, 3)), file.tensor("y", (4, 4))
    file.operator("ABS", [x], [y])
    with pytest.raises(RefusedError, match=r"y would be \[4, 3\] instead of \[4, 4\]"):
        imported(file.output(y))


# In the program


def test_a_file_is_a_graph_and_keeps_itself(tmp_path: Path) -> None:
    content = lower_graph(conv_net()).content
    net = read(tmp_path, content)
    assert net.format == "onnx"
    assert net.tflite is not None
    assert net.tflite.content == content
    assert home_runtime(net) == "litert"


def test_litert_runs_the_file_as_it_is_until_a_step_changes_the_graph(tmp_path: Path) -> None:
    content = lower_graph(conv_net()).content
    net = read(tmp_path, content)
    litert = get_runtime("litert")
    assert litert.supports(net) == []
    assert Path(litert.lower(net, tmp_path).path).read_bytes() == content
    changed = apply_step(net, WeightInt8(), Context(tmp_path))
    assert changed.tflite is not None
    assert (
        litert.supports(changed)
        or Path(litert.lower(changed, tmp_path).path).read_bytes() != content
    )


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "litert"])
def test_every_runtime_runs_an_imported_model(name: str, tmp_path: Path) -> None:
    net = read(tmp_path, lower_graph(conv_net()).content)
    runtime = get_runtime(name)
    session = runtime.open(runtime.lower(net, tmp_path), Execution())
    found = session.run({"x": images(2)})
    session.close()
    expected = run(model_from_proto(conv_net(), "net"), {"x": images(2)})
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-2, atol=1e-3)


def test_a_file_with_an_unknown_operator_still_runs_and_says_why_it_has_no_steps(
    tmp_path: Path,
) -> None:
    file = File()
    x, z, y = file.input("x", (4,)), file.input("z", (4,)), file.tensor("y", (4,))
    file.operator("RFFT2D", [x, z], [y])
    net = read(tmp_path, file.output(y))
    assert net.format == "tflite"
    assert get_runtime("litert").supports(net) == []
    with pytest.raises(RefusedError, match=r"runs as it is: no ONNX equal of: RFFT2D \(operator 0"):
        apply_step(net, WeightInt8(), Context(tmp_path))


def test_a_file_that_crashes_the_interpreter_fails_in_its_worker(tmp_path: Path) -> None:
    file = File()
    huge: dict[str, Any] = {"dtype": "int8", "scale": [1.7e38], "zero_point": [3]}
    x = file.input("x", (1, 3, 3, 2), **huge)
    weights = file.constant(np.ones((1, 2, 2, 2)), "int8", scale=[0.1, 0.2], axis=3)
    bias = file.constant([1, 2], "int32", scale=[0.05, 0.1])
    y = file.tensor("y", (1, 3, 3, 2), dtype="int8", scale=[0.5], zero_point=[3])
    options = {"padding": 0, "strideH": 1, "strideW": 1, "depthMultiplier": 1}
    file.operator("DEPTHWISE_CONV_2D", [x, weights, bias], [y], "DepthwiseConv2DOptions", options)
    net = read(tmp_path, file.output(y))
    lowered = get_runtime("litert").lower(net, tmp_path)
    Samples({"x": np.zeros((2, 3, 3, 2), np.int8)}).save(tmp_path / "samples")
    with (
        Worker(tmp_path) as worker,
        pytest.raises(RuntimeFailureError, match=r"^(crashed|litert could not)"),
    ):
        worker.open("litert", lowered, Execution(), tmp_path / "samples", 60.0)


def test_steps_take_an_imported_model(tmp_path: Path) -> None:
    net = read(tmp_path, lower_graph(conv_net()).content)
    samples = saved_data(tmp_path)
    calibration = load_samples(samples, net.signature, scratch=tmp_path)
    made = apply_step(net, StaticInt8(), Context(tmp_path, calibration))
    expected = run(net, {"x": images(4)})["y"]
    found = run(made, {"x": images(4)})["y"]
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
