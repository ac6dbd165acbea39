from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering import lower_graph


def small_net(batch: str | int = "batch") -> onnx.ModelProto:
    """Two convolutions with a residual sum, pooled and classified."""
    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(0, 0.3, shape).astype(np.float32), name)

    nodes = [
        helper.make_node(
            "Conv", ["x", "w0", "b0"], ["c0"], "first", pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Add", ["c1", "r0"], ["sum"], "residual"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["y"], "classify", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        [
            weights("w0", 8, 3, 3, 3),
            weights("b0", 8),
            weights("w1", 8, 1, 3, 3),
            weights("w2", 5, 8),
            weights("b2", 5),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def interpret(content: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content, num_threads=1)
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], x)
    interpreter.invoke()
    found: np.ndarray = interpreter.get_tensor(given["index"])
    return found


@pytest.mark.parametrize("batch", [1, 3])
def test_one_file_takes_every_batch_and_gives_what_onnx_runtime_gives(batch: int) -> None:
    proto = small_net()
    x = np.random.default_rng(1).normal(size=(batch, 3, 9, 9)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    lowering = lower_graph(proto)
    assert lowering.batch is None
    found = interpret(lowering.content, x)
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_only_the_input_is_transposed() -> None:
    kinds = [operator.kind for operator in lower_graph(small_net()).program.operators]
    assert kinds.count("TRANSPOSE") == 1
    assert "RELU" not in kinds


def test_an_input_may_be_taken_with_its_channels_last() -> None:
    proto = small_net(2)
    x = np.random.default_rng(1).normal(size=(2, 3, 9, 9)).astype(np.float32)
    lowering = lower_graph(proto, channels_last=frozenset({"x"}))
    assert "TRANSPOSE" not in [operator.kind for operator in lowering.program.operators]
    found = interpret(lowering.content, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_codes_that_leave_the_model_keep_their_sign(kind: type[np.integer]) -> None:
    code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "scale", "point"], ["y"], "quantize")],
        "codes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", code, [1, 4])],
        [
            numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
            numpy_helper.from_array(np.array(100, kind), "point"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    x = np.array([[-3, 0.26, 4, 30]], np.float32)
    found = interpret(lower_graph(proto).content, x)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    np.testing.assert_array_equal(found, session.run(None, {"x": x})[0])


def pixels(reads: str) -> onnx.ModelProto:
    """Every code of uint8, read as it is declared, and one node of integers or floats behind."""
    form = ["scale", "point"]
    real = [
        numpy_helper.from_array(np.array(0.0187, np.float32), "scale"),
        numpy_helper.from_array(np.array(113, np.uint8), "point"),
    ]
    nodes = [helper.make_node("DequantizeLinear", ["x", *form], ["real"], "read")]
    if reads == "integers":
        nodes += [
            helper.make_node("MaxPool", ["real"], ["pooled"], "pool", kernel_shape=[1, 1]),
            helper.make_node("QuantizeLinear", ["pooled", *form], ["y"], "write"),
        ]
    else:
        nodes.append(helper.make_node("Neg", ["real"], ["y"], "negate"))
    written = TensorProto.UINT8 if reads == "integers" else TensorProto.FLOAT
    shape = [1, 1, 16, 16]
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", written, shape)],
        real,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("reads", ["integers", "floats"])
def test_pixels_get_their_sign_through_floats_and_keep_every_code(reads: str) -> None:
    proto = pixels(reads)
    lowering = lower_graph(proto)
    kinds = [operator.kind for operator in lowering.program.operators]
    signed = ["DEQUANTIZE", "QUANTIZE"]
    assert [kind for kind in kinds if kind in signed] == (
        [*signed, *signed] if reads == "integers" else ["DEQUANTIZE"]
    )
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    np.testing.assert_array_equal(interpret(lowering.content, x), session.run(None, {"x": x})[0])


def test_two_readings_of_the_same_pixels_are_both_right() -> None:
    """Each with scales per channel of its own, and a third with one scale for all."""
    scales = {"a": [0.5, 0.25, 0.125], "b": [2.0, 3.0, 5.0], "c": 0.75}
    reads = [
        helper.make_node("DequantizeLinear", ["x", name], [f"{name}_real"], name, axis=1)
        for name in scales
    ]
    graph = helper.make_graph(
        [*reads, helper.make_node("Sum", [f"{name}_real" for name in scales], ["y"], "sum")],
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 2, 2])],
        [numpy_helper.from_array(np.array(scales[name], np.float32), name) for name in scales],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    x = np.arange(200, 212, dtype=np.uint8).reshape(1, 3, 2, 2)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found = interpret(lower_graph(proto).content, x)
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-6)


def test_all_that_has_no_equal_is_named_at_once() -> None:
    proto = small_net()
    for at, name in ((1, "relu"), (3, "residual")):
        proto.graph.node[at].op_type = {"relu": "NonZero", "residual": "Det"}[name]
    with pytest.raises(RefusedError, match=r"NonZero \(node relu\).*Det \(node residual\)"):
        lower_graph(proto)
