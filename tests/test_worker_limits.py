"""What a stranger's graph may take: memory and time by its size, and honest ones come through."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from command_line import hasten
from hasten.errors import ModelError, RuntimeFailureError
from hasten.graph import Model, model_from_proto
from hasten.runtimes import Execution
from hasten.worker.session import in_worker
from onnx_models import linear, model, value
from strange_files import endless_loop, filled, tower
from workers import lowered


def failure(net: onnx.ModelProto, folder: Path) -> str:
    found = lowered("onnxruntime", model_from_proto(net, "net"), folder)
    feed = {"x": np.ones(4, np.float32)}
    with (
        in_worker("onnxruntime", found, Execution(), folder / "w") as session,
        pytest.raises(RuntimeFailureError) as raised,
    ):
        session.run(feed)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_memory_without_end_cannot_be_had(tmp_path: Path) -> None:
    failure(filled(10**9), tmp_path)


def test_a_loop_without_end_is_ended(tmp_path: Path) -> None:
    begin = time.monotonic()
    assert "no answer within 6 s" in failure(endless_loop(), tmp_path)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("levels", [3, 20, 4000])
def test_a_tower_of_functions_is_counted_before_it_is_built(levels: int) -> None:
    net = tower(levels)
    if levels == 3:
        assert isinstance(model_from_proto(net, "net"), Model)
    else:
        with pytest.raises(ModelError, match="nodes"):
            model_from_proto(net, "net")


def test_functions_that_call_one_another_are_refused() -> None:
    net = tower(3)
    call = net.functions[0].node[0]
    call.op_type, call.domain = "f2", "tower"
    with pytest.raises(ModelError, match="functions that do not call themselves"):
        model_from_proto(net, "net")


@pytest.mark.parametrize("version", [2**62, 2**31, -1])
def test_versions_that_are_none_are_refused(version: int) -> None:
    net = linear()
    net.opset_import[0].version = version
    with pytest.raises(ModelError, match="a version of ONNX"):
        model_from_proto(net, "net")


@pytest.mark.parametrize("dims", [[2**40, 2**40], [2**62], [100_000, 3, 100_000]])
def test_inputs_that_nothing_can_hold_are_one_line(dims: list[int], tmp_path: Path) -> None:
    net = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", dims)], [value("y", dims)])
    onnx.save(net, tmp_path / "net.onnx")
    complaint = hasten("bench", tmp_path / "net.onnx", "--rounds", 1).complaint
    assert any(word in complaint for word in ("elements", "made up", "Unable to allocate"))


def test_activations_far_larger_than_the_file_are_let(tmp_path: Path) -> None:
    """A picture of 4 MB through 64 channels: a hundred times the file and the feed."""
    kernel = helper.make_tensor("k", TensorProto.FLOAT, [64, 3, 1, 1], np.ones(192, np.float32))
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"]),
        helper.make_node("Softmax", ["a"], ["b"], axis=1),
        helper.make_node("ReduceMax", ["b"], ["y"], keepdims=0),
    ]
    net = model(nodes, [value("x", [1, 3, 600, 600])], [value("y", [])], [kernel])
    found = lowered("onnxruntime", model_from_proto(net, "net"), tmp_path)
    with in_worker("onnxruntime", found, Execution(), tmp_path / "w") as session:
        assert session.run({"x": np.zeros((1, 3, 600, 600), np.float32)})["y"].shape == ()
