"""Weight-only int8: a quarter of the bytes, answers within the rounding of the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper, numpy_helper

from hasten.compress import Context, StaticInt8, WeightInt8, apply_step
from hasten.compress.quantization.rounding import Weights, quantize_weight
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import AppliedStep, Model, model_from_proto
from hasten.runtimes import Execution, get_runtime
from int8_net import sqnr_db
from onnx_models import branching, model, run, value, weight


def product(kind: str = "MatMul", *shape: int, transposed: bool = False) -> Model:
    """x[n,64] times a weight; for a stack of weights, a stack of x."""
    shape = shape or (64, 32)
    stack = shape[:-2]
    nodes = [helper.make_node(kind, ["x", "w"], ["y"], transB=1 if transposed else None)]
    inputs, outputs = [value("x", [*stack, "n", 64])], [value("y", [*stack, "n", None])]
    return model_from_proto(model(nodes, inputs, outputs, [weight("w", *shape)]), kind)


def convolution(kind: str = "Conv", *shape: int) -> Model:
    nodes = [helper.make_node(kind, ["x", "w"], ["y"])]
    inputs, outputs = [value("x", ["n", 16, 8, 8])], [value("y", ["n", None, None, None])]
    return model_from_proto(model(nodes, inputs, outputs, [weight("w", *shape)]), kind)


def compressed(found: Model, folder: Path) -> Model:
    return apply_step(found, WeightInt8(), Context(folder))


def feed(found: Model) -> dict[str, np.ndarray]:
    shape = [4 if dim is None else dim for dim in found.signature.inputs[0].shape]
    return {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def held(found: Model, name: str) -> np.ndarray:
    (tensor,) = [one for one in found.graph.graph.initializer if one.name == name]
    return numpy_helper.to_array(tensor)


def reason(found: Model, folder: Path) -> str:
    with pytest.raises(RefusedError) as refused:
        compressed(found, folder)
    message = str(refused.value)
    assert "\n" not in message
    return message


weights = st.integers(1, 3).flatmap(
    lambda rank: st.tuples(
        arrays.arrays(
            np.float32,
            arrays.array_shapes(min_dims=rank, max_dims=rank, max_side=6),
            elements=st.floats(-(2.0**100), 2.0**100, width=32),
        ),
        st.integers(0, rank - 1),
    )
)


widths = st.sampled_from(["w8", "w7"])


@given(case=weights, width=widths)
def test_a_weight_moves_by_at_most_half_of_its_scale(
    case: tuple[np.ndarray, int], width: Weights
) -> None:
    array, axis = case
    quantized, scale = quantize_weight(array, axis, width)
    shape = [-1 if at == axis else 1 for at in range(array.ndim)]
    steps = scale.astype(np.float64).reshape(shape)
    assert scale.shape == (array.shape[axis],)
    assert np.all(np.abs(quantized * steps - array) <= steps * (0.5 + 1e-4))


@given(case=weights, width=widths)
def test_the_zero_point_is_zero_and_both_ends_are_used_alike(
    case: tuple[np.ndarray, int], width: Weights
) -> None:
    array, axis = case
    quantized, _ = quantize_weight(array, axis, width)
    mirrored, _ = quantize_weight(-array, axis, width)
    np.testing.assert_array_equal(mirrored, -quantized)
    assert np.all(quantized[array == 0] == 0)


@pytest.mark.parametrize(("width", "highest"), [("w8", 127), ("w7", 64)])
def test_the_largest_weight_of_a_channel_is_the_largest_level(width: Weights, highest: int) -> None:
    array = np.random.default_rng(0).normal(size=(8, 40)).astype(np.float32)
    quantized, _ = quantize_weight(array, 0, width)
    assert np.all(np.abs(quantized.astype(int)).max(axis=1) == highest)


@pytest.mark.parametrize(
    ("found", "scales"),
    [
        (product("MatMul", 64, 32), 32),
        (product("Gemm", 64, 32), 32),
        (product("Gemm", 32, 64, transposed=True), 32),
        (product("MatMul", 5, 64, 32), 32),
        (convolution("Conv", 12, 16, 3, 3), 12),
        (convolution("ConvTranspose", 16, 12, 3, 3), 12),
    ],
    ids=["matmul", "gemm", "gemm transposed", "matmul stack", "conv", "conv transposed"],
)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_answers_stay_close_with_a_scale_for_each_output_channel(
    found: Model, scales: int, runtime: str, tmp_path: Path
) -> None:
    smaller = compressed(found, tmp_path)
    opened = get_runtime(runtime)
    execution = Execution(hint="f32" if runtime == "openvino" else "default")
    session = opened.open(opened.lower(smaller, tmp_path), execution)
    assert sqnr_db(run(found, feed(found))["y"], session.run(feed(found))["y"]) > 38
    assert held(smaller, "w.scale").shape == (scales,)


def test_the_file_takes_about_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    plain = product("MatMul", 64, 512)
    assert 0.24 < len(compressed(plain, tmp_path).payload) / len(plain.payload) < 0.30


def test_the_graph_is_valid_onnx(tmp_path: Path) -> None:
    found = compressed(convolution("Conv", 12, 16, 3, 3), tmp_path)
    onnx.checker.check_model(found.graph, full_check=True)


def test_the_record_names_the_step(tmp_path: Path) -> None:
    assert compressed(product(), tmp_path).steps == (AppliedStep("weight_int8"),)


def test_the_given_model_is_left_as_it_was(tmp_path: Path) -> None:
    plain = product()
    before = plain.graph.SerializeToString(deterministic=True)
    compressed(plain, tmp_path)
    assert plain.graph.SerializeToString(deterministic=True) == before


def test_a_weight_that_two_nodes_share_is_stored_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Gemm", ["h", "w"], ["y"], transB=1),
    ]
    proto = model(nodes, [value("x", ["n", 64])], [value("y", ["n", 64])], [weight("w", 64, 64)])
    plain = model_from_proto(proto, "shared")
    found = compressed(plain, tmp_path)
    assert [tensor.name for tensor in found.graph.graph.initializer] == ["w.int8", "w.scale"]
    assert sqnr_db(run(plain, feed(plain))["y"], run(found, feed(plain))["y"]) > 35


def test_a_weight_that_is_used_for_more_is_left(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "other"], ["y"]),
        helper.make_node("Abs", ["w"], ["sizes"]),
    ]
    outputs = [value("y", ["n", 64]), value("sizes", [64, 64])]
    constants = [weight("w", 64, 64), weight("other", 64, 64)]
    proto = model(nodes, [value("x", ["n", 64])], outputs, constants)
    found = compressed(model_from_proto(proto, "used"), tmp_path)
    assert held(found, "w").dtype == np.float32
    assert held(found, "other.int8").dtype == np.int8


def test_a_weight_that_control_flow_reads_too_is_left(tmp_path: Path) -> None:
    proto = branching()
    (choose,) = proto.graph.node
    for branch in choose.attribute:
        branch.g.node[0].CopyFrom(helper.make_node("Add", ["x", "w"], [branch.g.output[0].name]))
    proto.graph.node.append(helper.make_node("MatMul", ["x", "w"], ["z"]))
    proto.graph.initializer.append(weight("w", 4, 1024))
    assert "no float32 weights" in reason(model_from_proto(proto, "both"), tmp_path)


def test_a_model_with_control_flow_is_compressed_around_it(tmp_path: Path) -> None:
    proto = branching()
    proto.graph.node.append(helper.make_node("MatMul", ["x", "w"], ["z"]))
    proto.graph.initializer.append(weight("w", 4, 1024))
    proto.graph.output.append(value("z", ["n", 1024]))
    found = compressed(model_from_proto(proto, "both"), tmp_path)
    answers = run(found, {"cond": np.array(True), "x": np.ones((2, 4), np.float32)})
    assert answers["z"].shape == (2, 1024)


def test_weights_that_are_listed_as_inputs_are_compressed_too(tmp_path: Path) -> None:
    proto = product().graph
    proto.graph.input.append(value("w", [64, 32]))
    plain = model_from_proto(proto, "listed")
    found = compressed(plain, tmp_path)
    assert [entry.name for entry in found.graph.graph.input] == ["x"]
    assert run(found, feed(plain))["y"].shape == (4, 32)


def test_small_weights_are_not_worth_it(tmp_path: Path) -> None:
    assert "1024 values or more" in reason(product("MatMul", 64, 15), tmp_path)


def test_half_precision_weights_are_left(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.ones((64, 32), np.float16), "w")
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 64], onnx.TensorProto.FLOAT16)],
        [value("y", ["n", 32], onnx.TensorProto.FLOAT16)],
        [half],
    )
    assert "no float32 weights" in reason(model_from_proto(proto, "half"), tmp_path)


def test_quantized_graphs_are_refused(tmp_path: Path) -> None:
    static = apply_step(product(), StaticInt8(), Context(tmp_path, Samples(feed(product()))))
    assert "no float32 weights" in reason(static, tmp_path)
    assert "no float32 weights" in reason(compressed(product(), tmp_path), tmp_path)


def test_a_graph_of_an_older_opset_is_lifted(tmp_path: Path) -> None:
    old = product()
    old.graph.opset_import[0].version = 11
    found = compressed(old, tmp_path)
    assert [opset.version for opset in found.graph.opset_import] == [13]
    want, got = run(old, feed(old))["y"], run(found, feed(old))["y"]
    assert sqnr_db(want, got) > 30


def test_an_opset_that_cannot_be_lifted_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("RNN", ["m", "i", "r"], ["y"], hidden_size=5),
    ]
    weights = [weight("w", 64, 32), weight("i", 1, 5, 32), weight("r", 1, 5, 5)]
    proto = model(nodes, [value("x", [3, "n", 64])], [value("y", [3, 1, "n", 5])], weights)
    proto.opset_import[0].version = 6
    message = reason(model_from_proto(proto, "old"), tmp_path)
    assert "needs opset 13, and the graph's 6 cannot be lifted to it: RuntimeError" in message


def test_a_tflite_file_is_refused(tmp_path: Path) -> None:
    assert ".tflite" in reason(Model("lite", b"TFL3", product().signature), tmp_path)
