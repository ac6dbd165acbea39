import logging
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.errors import ModelError, RefusedError
from hasten.graph import Model, clean, model_from_proto
from hasten.graph.clean import Arrays
from onnx_models import branching, conv_bn, linear, model, run, value, weight

_IMAGE = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}
_ROW = {"x": np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)}


def _operators(cleaned: Model) -> list[str]:
    return [node.op_type for node in cleaned.graph.graph.node]


def test_constants_and_batch_norms_are_folded_and_dead_nodes_gone() -> None:
    cleaned = clean(model_from_proto(conv_bn()), run, _IMAGE)
    assert _operators(cleaned) == ["Conv", "Mul"]


def test_outputs_names_and_free_dimensions_stay() -> None:
    before = model_from_proto(conv_bn())
    cleaned = clean(before, run, _IMAGE)
    assert cleaned.signature == before.signature
    assert cleaned.graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    np.testing.assert_allclose(
        run(cleaned, _IMAGE)["y"], run(before, _IMAGE)["y"], rtol=1e-4, atol=1e-4
    )


def test_the_given_model_is_not_changed() -> None:
    before = model_from_proto(conv_bn())
    payload = before.graph.SerializeToString(deterministic=True)
    clean(before, run, _IMAGE)
    assert before.graph.SerializeToString(deterministic=True) == payload


def test_cleaning_is_no_step() -> None:
    assert clean(model_from_proto(conv_bn()), run, _IMAGE).steps == ()


def test_each_node_has_a_name_of_its_own() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"], name="Exp_1"),
        helper.make_node("Exp", ["b"], ["y"]),
    ]
    proto = model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])])
    cleaned = clean(model_from_proto(proto), run, _ROW)
    names = [node.name for node in cleaned.graph.graph.node]
    assert len(set(names)) == 3
    assert all(names)
    assert "Exp_1" in names


def test_values_inside_get_their_shapes() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Softmax", ["hidden"], ["y"]),
    ]
    proto = model(nodes, [value("x", ["n", 4])], [value("y", ["n", 3])], [weight("w", 4, 3)])
    cleaned = clean(model_from_proto(proto), run, _ROW)
    shapes = {
        info.name: [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in cleaned.graph.graph.value_info
    }
    assert shapes["hidden"] == ["n", 3]


def test_branches_stay_and_compute_the_same() -> None:
    before = model_from_proto(branching())
    feed = {"cond": np.array(False), "x": np.ones((2, 4), np.float32)}
    cleaned = clean(before, run, feed)
    assert "If" in _operators(cleaned)
    for cond in (True, False):
        feed["cond"] = np.array(cond)
        np.testing.assert_array_equal(run(cleaned, feed)["y"], run(before, feed)["y"])


def test_cleaning_twice_changes_nothing_more() -> None:
    once = clean(model_from_proto(conv_bn()), run, _IMAGE)
    assert _operators(clean(once, run, _IMAGE)) == _operators(once)


def test_an_input_that_nobody_reads_stays() -> None:
    proto = linear()
    proto.graph.input.append(value("unread", [1]))
    feed = {**_ROW, "unread": np.zeros(1, np.float32)}
    before = model_from_proto(proto)
    assert clean(before, run, feed).signature == before.signature


def test_outputs_that_part_are_refused_with_the_distance() -> None:
    before = model_from_proto(conv_bn())

    def wrong(net: Model, feed: Arrays) -> Arrays:
        return {"y": np.ones(2, np.float32) * (1.0 if net is before else 1.5)}

    with pytest.raises(RefusedError, match=r"^cleaning net: output y would be off by up to 0.5$"):
        clean(before, wrong, _IMAGE)


def test_another_dtype_or_shape_is_refused() -> None:
    before = model_from_proto(conv_bn())

    def wrong(net: Model, feed: Arrays) -> Arrays:
        return {"y": np.ones(2, np.float32 if net is before else np.float64)}

    with pytest.raises(RefusedError, match=r"output y was float32\[2\] and becomes float64\[2\]$"):
        clean(before, wrong, _IMAGE)


def test_not_a_number_where_there_was_one_is_refused() -> None:
    before = model_from_proto(conv_bn())

    def wrong(net: Model, feed: Arrays) -> Arrays:
        return {"y": np.full(2, 1.0 if net is before else np.nan, np.float32)}

    with pytest.raises(RefusedError, match="off by up to inf"):
        clean(before, wrong, _IMAGE)


def test_a_failure_of_onnxslim_is_a_refusal_in_one_line() -> None:
    proto = linear()
    broken = onnx.ModelProto()
    broken.CopyFrom(proto)
    broken.graph.node[0].input[1] = "nowhere"
    before = replace(model_from_proto(proto), content=broken)
    with pytest.raises(RefusedError) as raised:
        clean(before, run, _ROW)
    assert str(raised.value).startswith("cleaning net: onnxslim failed with ")
    assert "\n" not in str(raised.value)


def test_a_tflite_has_no_graph_to_clean() -> None:
    tflite = Model("net", b"TFL3", model_from_proto(linear()).signature)
    with pytest.raises(ModelError, match=r"Expected an ONNX graph, got a \.tflite file - at net"):
        clean(tflite, run, {})


def test_nothing_is_printed(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    huge = numpy_helper.from_array(np.arange(4, dtype=np.float32), "k")
    custom = helper.make_node("Fast", ["k"], ["z"], domain="com.acme")
    proto = conv_bn([custom])
    proto.graph.initializer.append(huge)
    proto.graph.output.append(value("z", [4], TensorProto.FLOAT))
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    with caplog.at_level(logging.WARNING):
        clean(model_from_proto(proto), lambda net, feed: {"y": np.ones(1, np.float32)}, _IMAGE)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
