"""A model is tried out in a process of its own before the server opens it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from command_line import finish, start
from onnx_models import model, value
from served_models import put_null, put_onnx

_ENDLESS_S, _FILLED_BYTES = 2**40, 2**33


def _endless() -> onnx.ModelProto:
    """A loop of some hours, whatever it is given."""
    body = helper.make_graph(
        [
            helper.make_node("Tanh", ["h"], ["hh"]),
            helper.make_node("Identity", ["k"], ["kk"]),
        ],
        "body",
        [
            value("i", [], TensorProto.INT64),
            value("k", [], TensorProto.BOOL),
            value("h", ["b", 4]),
        ],
        [value("kk", [], TensorProto.BOOL), value("hh", ["b", 4])],
    )
    node = helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)
    many = numpy_helper.from_array(np.array(_ENDLESS_S, np.int64), "n")
    true = numpy_helper.from_array(np.array(True), "t")
    return model([node], [value("x", ["b", 4])], [value("y", ["b", 4])], [many, true])


def _filled() -> onnx.ModelProto:
    """A constant of eight gigabytes, which is made when the model is opened."""
    size = numpy_helper.from_array(np.array([_FILLED_BYTES // 4], np.int64), "s")
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceMax", ["c"], ["m"], keepdims=0),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    return model(nodes, [value("x", ["b", 4])], [value("y", ["b", 4])], [size])


@pytest.mark.parametrize(("name", "graph"), [("endless", _endless()), ("filled", _filled())])
def test_a_model_that_takes_all_time_or_memory_is_refused_in_one_line(
    tmp_path: Path, name: str, graph: onnx.ModelProto
) -> None:
    path = put_onnx(tmp_path / f"{name}.onnx", graph)
    done = finish(start("serve", path, "--http-port", 0, folder=tmp_path))
    assert done.status == 2, done.err
    (line,) = [one for one in done.err.splitlines() if one]
    assert line.startswith("hasten: ")


def test_a_model_that_crashes_its_runtime_leaves_the_server_alone(tmp_path: Path) -> None:
    put_null(tmp_path / "broken", fail="crash")
    done = finish(start("serve", tmp_path / "broken", "--http-port", 0, folder=tmp_path))
    assert done.status == 2, done.err
    assert "SIGSEGV" in done.err
