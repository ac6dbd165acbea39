"""Dynamic int8: smaller weights, near answers, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hasten.compress import Context, DynamicInt8, StaticInt8, apply_step
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import AppliedStep, Model, model_from_proto
from int8_net import sqnr_db
from onnx_models import branching, model, run, value, weight


def mlp() -> Model:
    """A Gemm with its weights transposed and a MatMul with its bias apart."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1, name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w2"], ["p"], name="second"),
        helper.make_node("Add", ["p", "b2"], ["y"], name="bias"),
    ]
    weights = [weight("w1", 256, 64), weight("b1", 256), weight("w2", 256, 32), weight("b2", 32)]
    proto = model(nodes, [value("x", ["n", 64])], [value("y", ["n", 32])], weights)
    return model_from_proto(proto, "mlp")


def convolution() -> Model:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")]
    proto = model(
        nodes,
        [value("x", ["n", 8, 6, 6])],
        [value("y", ["n", 32, 4, 4])],
        [weight("w", 32, 8, 3, 3), weight("b", 32)],
    )
    return model_from_proto(proto, "convolution")


def feed(found: Model) -> dict[str, np.ndarray]:
    (spec,) = found.signature.inputs
    shape = [8 if dim is None else dim for dim in spec.shape]
    return {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def reason(found: Model, folder: Path) -> str:
    with pytest.raises(RefusedError) as refused:
        apply_step(found, DynamicInt8(), Context(folder))
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("make", [mlp, convolution])
def test_outputs_stay_close_to_those_in_float(make: Callable[[], Model], tmp_path: Path) -> None:
    plain = make()
    found = apply_step(plain, DynamicInt8(), Context(tmp_path))
    want, got = run(plain, feed(plain))["y"], run(found, feed(plain))["y"]
    assert sqnr_db(want, got) > 30


def test_weights_take_about_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    found = apply_step(mlp(), DynamicInt8(), Context(tmp_path))
    assert 0.24 < len(found.payload) / len(mlp().payload) < 0.32


def test_matrix_products_have_a_scale_for_each_column(tmp_path: Path) -> None:
    found = apply_step(mlp(), DynamicInt8(), Context(tmp_path))
    scales = {
        tensor.name: list(tensor.dims)
        for tensor in found.graph.graph.initializer
        if tensor.name.endswith("_scale")
    }
    assert sorted(scales.values()) == [[32], [256]]


def test_the_record_names_the_step(tmp_path: Path) -> None:
    found = apply_step(mlp(), DynamicInt8(), Context(tmp_path))
    assert found.steps == (AppliedStep("dynamic_int8", {"weights": "w8"}),)


def test_signature_and_given_model_stay_as_they_were(tmp_path: Path) -> None:
    plain = mlp()
    before = plain.graph.SerializeToString(deterministic=True)
    found = apply_step(plain, DynamicInt8(), Context(tmp_path))
    assert found.signature == plain.signature
    assert plain.graph.SerializeToString(deterministic=True) == before


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (apply_step(mlp(), DynamicInt8(), Context(tmp_path)) for _ in range(2))
    assert first.payload == second.payload


def test_nothing_stays_in_the_scratch_folder(tmp_path: Path) -> None:
    apply_step(mlp(), DynamicInt8(), Context(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_log_of_the_application_is_left_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    apply_step(mlp(), DynamicInt8(), Context(tmp_path))
    assert (root.level, list(root.handlers)) == before


def test_weights_of_7_bits_leave_one_unused(tmp_path: Path) -> None:
    found = apply_step(mlp(), DynamicInt8("w7"), Context(tmp_path))
    weights = [
        numpy_helper.to_array(held)
        for held in found.graph.graph.initializer
        if held.data_type == onnx.TensorProto.INT8 and len(held.dims) > 1
    ]
    assert weights
    assert max(np.abs(one.astype(int)).max() for one in weights) == 64


def test_a_weight_that_two_nodes_share_is_quantized_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="second"),
    ]
    proto = model(nodes, [value("x", ["n", 64])], [value("y", ["n", 64])], [weight("w", 64, 64)])
    plain = model_from_proto(proto, "shared")
    found = apply_step(plain, DynamicInt8("w7"), Context(tmp_path))
    kinds = [tensor.data_type for tensor in found.graph.graph.initializer if len(tensor.dims) == 2]
    assert kinds == [onnx.TensorProto.INT8]
    want, got = run(plain, feed(plain))["y"], run(found, feed(plain))["y"]
    assert sqnr_db(want, got) > 30


def test_weights_that_are_computed_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "other"], ["y"])]
    inputs = [value("x", ["n", 64]), value("other", [64, 32])]
    found = model_from_proto(model(nodes, inputs, [value("y", ["n", 32])]), "computed")
    assert "no matrix product or convolution with constant weights" in reason(found, tmp_path)


def test_a_quantized_graph_is_refused(tmp_path: Path) -> None:
    place = Context(tmp_path, Samples(feed(mlp())))
    found = apply_step(mlp(), StaticInt8(), place)
    assert "no matrix product or convolution with constant weights" in reason(found, tmp_path)


def test_control_flow_is_refused(tmp_path: Path) -> None:
    found = model_from_proto(branching(), "branching")
    assert "dynamic int8 takes no control flow or sequences: If" in reason(found, tmp_path)


def test_a_tflite_file_is_refused(tmp_path: Path) -> None:
    assert ".tflite" in reason(Model("lite", b"TFL3", mlp().signature), tmp_path)


def test_what_the_quantizer_cannot_take_is_refused(tmp_path: Path) -> None:
    found = mlp()
    found.graph.graph.node.append(helper.make_node("Nothing", ["gone"], ["lost"]))
    found.graph.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "w1"))
    assert reason(found, tmp_path).startswith("the dynamic quantizer failed: ")
