"""Models that static int8 refuses, each with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.compress import Context, StaticInt8, apply_step
from hasten.compress.step import Observation
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import Model, model_from_proto
from int8_net import context, net
from onnx_models import branching, linear, model, value, weight


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


def test_where_all_that_is_made_overflows_it_is_refused_by_name(tmp_path: Path) -> None:
    place = Context(tmp_path, Samples({"x": np.full((2, 4), 3e38, np.float32)}))
    message = reason(model_from_proto(linear(), "linear"), place)
    reason_told = "product: no range is known, as of infinities"
    assert message == f"nothing is left to quantize: {reason_told}"


def test_an_activation_that_is_no_number_is_refused_by_name(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Sqrt", ["x"], ["s"]), helper.make_node("MatMul", ["s", "w"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [weight("w", 4, 3)],
    )
    place = Context(tmp_path, Samples({"x": np.full((2, 4), -1, np.float32)}))
    message = reason(model_from_proto(proto, "roots"), place)
    assert "an activation cannot be calibrated" in message
    assert "NaN - at s" in message


def test_without_any_range_it_is_refused(tmp_path: Path) -> None:
    place = context(tmp_path)
    place.observations[net().digest] = Observation({}, {})
    message = reason(net(), place)
    assert message.startswith("nothing is left to quantize: first and 7 more: no range is known")


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
