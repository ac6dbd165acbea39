"""Static int8 with some blocks kept in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from hasten.compress import Context, StaticInt8, applied, apply_step
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import AppliedStep, Model, blocks, model_from_proto
from hasten.runtimes import Execution, get_runtime
from nets import conv_net, images
from onnx_models import run


def quantized(folder: Path, *names: str, model: Model | None = None) -> Model:
    model = model or model_from_proto(conv_net(), "net")
    context = Context(folder, Samples({"x": images(8)}))
    return apply_step(model, StaticInt8(float_blocks=names), context)


def made_in_float(model: Model, kind: str) -> list[bool]:
    """For each node of this kind, whether its weight is a plain float initializer."""
    weights = {tensor.name for tensor in model.graph.graph.initializer}
    return [node.input[1] in weights for node in model.graph.graph.node if node.op_type == kind]


def test_only_the_blocks_named_stay_in_float(tmp_path: Path) -> None:
    assert made_in_float(quantized(tmp_path), "Conv") == [False, False]
    assert made_in_float(quantized(tmp_path, "c1"), "Conv") == [True, False]
    made = quantized(tmp_path, "c2", "y")
    assert made_in_float(made, "Conv") == [False, True]
    assert made_in_float(made, "Gemm") == [True]


def test_nothing_is_quantized_between_float_blocks(tmp_path: Path) -> None:
    model = quantized(tmp_path, "c1", "c2")
    made = {name: node for node in model.graph.graph.node for name in node.output}
    convolutions = [node for node in model.graph.graph.node if node.op_type == "Conv"]
    assert made[convolutions[1].input[0]].op_type == "Relu"


def test_biases_of_float_blocks_are_left_alone(tmp_path: Path) -> None:
    """The last block alone is int8: up to there the numbers are those of the float model."""
    model = quantized(tmp_path, "c1", "c2")
    feed = {"x": images(2)}
    flat = onnx.helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, None)
    outputs = []
    for proto in (conv_net(), model.graph):
        watched = onnx.ModelProto()
        watched.CopyFrom(proto)
        watched.graph.output.append(flat)
        outputs.append(run(model_from_proto(watched, "watched"), feed)["flat"])
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "litert"])
@pytest.mark.parametrize("name", ["c1", "c2", "y"])
def test_every_runtime_takes_a_mixture(runtime: str, name: str, tmp_path: Path) -> None:
    model = quantized(tmp_path, name)
    chosen = get_runtime(runtime)
    assert chosen.supports(model) == []
    session = chosen.open(chosen.lower(model, tmp_path), Execution())
    got = np.asarray(session.run({"x": images(1)})["y"])
    session.close()
    want = run(model_from_proto(conv_net(), "net"), {"x": images(1)})["y"]
    np.testing.assert_allclose(got, want, atol=0.1)


def test_nodes_without_names_are_kept_in_float_too(tmp_path: Path) -> None:
    proto = conv_net()
    for node in proto.graph.node:
        node.name = ""
    model = quantized(tmp_path, blocks(proto)[0].name, model=model_from_proto(proto, "net"))
    assert made_in_float(model, "Conv") == [True, False]


def test_a_block_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no block nonsense; it has c1, c2, y"):
        quantized(tmp_path, "nonsense")


def test_all_blocks_in_float_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="nothing is left to quantize"):
        quantized(tmp_path, "c1", "c2", "y")


def test_the_record_names_the_blocks_and_leaves_out_none() -> None:
    assert str(applied(StaticInt8())) == "static_int8 u8 w8 minmax corrected"
    assert "float_blocks" not in applied(StaticInt8()).config
    record = applied(StaticInt8(float_blocks=("c1", "y")))
    assert str(record) == "static_int8 u8 w8 minmax corrected float_blocks=c1,y"
    assert record == AppliedStep(record.step, {**record.config, "float_blocks": ["c1", "y"]})
