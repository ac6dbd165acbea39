"""Weight-only int4: an eighth of the bytes, answers within the rounding of the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from hasten.compress import Context, DynamicInt8, WeightInt4, apply_step
from hasten.compress.quantization.rounding import quantize_weight
from hasten.errors import RefusedError
from hasten.graph import Model, model_from_proto
from hasten.runtimes import Execution, get_runtime
from onnx_models import model, run, value, weight


def product(columns: int = 32, opset: int = 21) -> Model:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = model(
        nodes, [value("x", ["n", 64])], [value("y", ["n", columns])], [weight("w", 64, columns)]
    )
    proto.opset_import[0].version = opset
    proto.ir_version = 10
    return model_from_proto(proto, "product")


def convolution() -> Model:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    inputs, outputs = [value("x", ["n", 16, 8, 8])], [value("y", ["n", 12, 6, 6])]
    return model_from_proto(model(nodes, inputs, outputs, [weight("w", 12, 16, 3, 3)]), "conv")


def compressed(found: Model, folder: Path) -> Model:
    return apply_step(found, WeightInt4(), Context(folder))


def feed(found: Model) -> dict[str, np.ndarray]:
    shape = [4 if dim is None else dim for dim in found.signature.inputs[0].shape]
    return {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


@pytest.mark.parametrize("found", [product(), convolution()], ids=["product", "convolution"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_answers_are_those_of_the_rounded_weights(
    found: Model, runtime: str, tmp_path: Path
) -> None:
    axis = 1 if found.name == "product" else 0
    (held,) = found.graph.graph.initializer
    levels, scale = quantize_weight(onnx.numpy_helper.to_array(held), axis, "w4")
    along = (-1,) if axis else (-1, 1, 1, 1)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(found.graph)
    values = (levels * scale.reshape(along)).astype(np.float32)
    rounded.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "w"))
    want = run(model_from_proto(rounded, "rounded"), feed(found))["y"]
    opened = get_runtime(runtime)
    execution = Execution(hint="f32" if runtime == "openvino" else "default")
    session = opened.open(opened.lower(compressed(found, tmp_path), tmp_path), execution)
    try:
        got = session.run(feed(found))["y"]
    finally:
        session.close()
    # Not closer: for such weights both runtimes may round activations to 8 bits as well.
    assert 10 * np.log10(np.square(want).sum() / max(np.square(want - got).sum(), 1e-9)) > 35


def test_litert_says_why_it_has_no_such_weights(tmp_path: Path) -> None:
    found, runtime = product(), get_runtime("litert")
    smaller = compressed(found, tmp_path)
    with pytest.raises(RefusedError, match="int4"):
        runtime.lower(smaller, tmp_path)


def test_the_file_takes_about_an_eighth_of_the_bytes(tmp_path: Path) -> None:
    plain = product(512)
    assert 0.12 < len(compressed(plain, tmp_path).payload) / len(plain.payload) < 0.16


def test_an_older_graph_is_lifted_to_the_opset_that_has_int4(tmp_path: Path) -> None:
    found = compressed(product(opset=17), tmp_path)
    onnx.checker.check_model(found.graph, full_check=True)
    assert [opset.version for opset in found.graph.opset_import] == [21]


def test_small_weights_are_not_worth_it(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="1024 values or more"):
        compressed(product(15), tmp_path)


def test_dynamic_int8_has_no_weights_of_4_bits(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="8 or 7 bits"):
        apply_step(product(), DynamicInt8("w4"), Context(tmp_path))
