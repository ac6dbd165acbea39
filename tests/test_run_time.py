"""Whether time depends on values, asked of ONNX's node tests, of loops and of .tflite files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from hasten.graph import model_from_proto
from hasten.graph.run_time import time_depends_on_values
from hasten.runtimes import get_runtime
from hasten.serve.engine.inline import time_is_bounded
from nets import conv_net
from onnx_models import model, value
from served_models import looping, picking, scaled, two_sizes

#: Operators for which shape inference gives no shape, though it is an input's.
_UNINFERRED = {"GroupNormalization", "MeanVarianceNormalization", "Identity"}


def inferred(proto: onnx.ModelProto) -> bool:
    """Whether the shapes of all outputs follow from those of the inputs, by ONNX's own rules."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    for output in onnx.shape_inference.infer_shapes(bare).graph.output:
        shape = output.type.tensor_type.shape
        if not output.type.tensor_type.HasField("shape"):
            return False
        if not all(dim.HasField("dim_value") for dim in shape.dim):
            return False
    return True


def test_every_operator_whose_output_may_have_any_shape_is_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX's cases for casts overflow on purpose
        cases = collect_testcases(None)
    models = [case.model for case in cases if case.model is not None]
    singles = [proto for proto in models if len(proto.graph.node) == 1]
    tensors = [
        proto
        for proto in singles
        if all(
            one.type.HasField("tensor_type") for one in (*proto.graph.input, *proto.graph.output)
        )
    ]
    assert len(tensors) > 500
    missed = {
        proto.graph.node[0].op_type
        for proto in tensors
        if not time_depends_on_values(proto) and not inferred(proto)
    }
    assert missed <= _UNINFERRED


def chain(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """x[2] through nodes to y."""
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    taken, given = value("x", [2], TensorProto.INT64), value("y", ["n"], TensorProto.INT64)
    return model(nodes, [taken], [given], [one])


def test_a_value_that_comes_round_about_is_followed() -> None:
    node = helper.make_node
    assert time_depends_on_values(
        chain(
            node("Add", ["x", "one"], ["a"]),
            node("Concat", ["a", "one"], ["b"], axis=0),
            node("Expand", ["one", "b"], ["y"]),
        )
    )


def test_a_shape_that_follows_from_shapes_is_no_value() -> None:
    node = helper.make_node
    assert not time_depends_on_values(
        chain(
            node("Mul", ["x", "one"], ["a"]),
            node("Shape", ["a"], ["b"]),
            node("Concat", ["b", "one"], ["c"], axis=0),
            node("Expand", ["one", "c"], ["y"]),
        )
    )


def test_an_operator_nobody_knows_may_take_any_time() -> None:
    proto = chain(helper.make_node("Own", ["x"], ["y"], domain="com.example"))
    assert time_depends_on_values(proto)


@pytest.mark.parametrize(
    ("proto", "bounded"),
    [
        (scaled(), True),
        (picking(), True),
        (conv_net(), True),
        (two_sizes(), False),
        (looping(), False),
    ],
    ids=["scaled", "picking", "conv_net", "two_sizes", "looping"],
)
def test_files_are_read_as_they_are_served(
    tmp_path: Path, proto: onnx.ModelProto, *, bounded: bool
) -> None:
    lowered = get_runtime("onnxruntime").lower(model_from_proto(proto, "net"), tmp_path)
    assert time_is_bounded(lowered) == bounded


@pytest.mark.parametrize("proto", [scaled(), conv_net()], ids=["scaled", "conv_net"])
def test_a_plain_tflite_file_is_bounded(tmp_path: Path, proto: onnx.ModelProto) -> None:
    lowered = get_runtime("litert").lower(model_from_proto(proto, "net"), tmp_path)
    assert time_is_bounded(lowered)
