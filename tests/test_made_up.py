"""Inputs that a model is warmed up with: given, or made up until it takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.errors import RuntimeFailureError
from hasten.graph import Signature, TensorSpec
from hasten.runtimes import Execution
from hasten.serve.engine.made_up import MadeUp, first_that_runs, made_up_inputs, may_be_unlucky
from hasten.serve.engine.opening import OpenedModel, open_model
from hasten.serve.engine.settings import ModelWarmup, ServingSettings, WarmupInput
from hasten.serve.engine.source import ModelSource
from hasten.serve.repository.config_pbtxt import parse_config
from hasten.serve.repository.model_file import file_version
from inference_v2 import infer, outputs
from onnx_models import model, value
from served import Served, serving
from served_models import put_onnx

_WINDOW = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
_FRAMES = numpy_helper.from_array(np.array([0, -1, 4], np.int64), "s")
_TABLE = numpy_helper.from_array(np.eye(10, 8, dtype=np.float32), "t")


def _divided() -> onnx.ModelProto:
    node = helper.make_node("Div", ["x", "z"], ["y"])
    whole = TensorProto.INT32
    inputs = [value("x", ["b", 4], whole), value("z", ["b", 4], whole)]
    return model([node], inputs, [value("y", ["b", 4], whole)])


def _read() -> onnx.ModelProto:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    return model([node], [value("x", ["b", 2], TensorProto.STRING)], [value("y", ["b", 2])])


def _convolved() -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    inputs = [value("x", ["b", 3, "h", "v"])]
    return model([node], inputs, [value("y", ["b", 4, "k", "l"])], [_WINDOW])


def _framed() -> onnx.ModelProto:
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    return model([node], [value("x", ["b", "n"])], [value("y", ["b", "f", 4])], [_FRAMES])


def _picked() -> onnx.ModelProto:
    """A table whose ids are 50 to 69: none that is made up is in it."""
    base = numpy_helper.from_array(np.array(60, np.int64), "base")
    nodes = [
        helper.make_node("Sub", ["x", "base"], ["at"]),
        helper.make_node("Gather", ["t", "at"], ["y"]),
    ]
    inputs = [value("x", ["b"], TensorProto.INT64)]
    return model(nodes, inputs, [value("y", ["b", 8])], [_TABLE, base])


#: Models that are valid and take not just anything, and a request that each takes.
_PARTICULAR = {
    "divided": (_divided(), {"x": np.full((1, 4), 6, np.int32), "z": np.full((1, 4), 3, np.int32)}),
    "read": (_read(), {"x": np.array([["2", "0.5"]], object)}),
    "convolved": (_convolved(), {"x": np.ones((1, 3, 5, 4), np.float32)}),
    "framed": (_framed(), {"x": np.ones((1, 12), np.float32)}),
    "picked": (_picked(), {"x": np.array([55], np.int64)}),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("particular")
    paths = [put_onnx(folder / f"{name}.onnx", one) for name, (one, _) in _PARTICULAR.items()]
    with serving(*paths, folder=folder) as served:
        yield served


@pytest.mark.parametrize("name", _PARTICULAR)
def test_a_model_that_does_not_take_just_anything_is_served(server: Served, name: str) -> None:
    _, feed = _PARTICULAR[name]
    with server.connect() as client:
        answer = client.raw(infer(name, feed))
    assert answer.status == 200, answer.body
    assert outputs(answer)["y"].size


def test_what_takes_nothing_that_is_made_up_is_opened_with_a_note(tmp_path: Path) -> None:
    opened = _opened(put_onnx(tmp_path / "picked.onnx", _picked()), ServingSettings())
    (note,) = opened.notes
    assert note.startswith("not warmed up: it does not take made-up inputs (onnxruntime could not")
    assert opened.batched, "its graph shows that its rows are independent"
    assert not opened.warmed.times.known, "nobody knows how long it takes"


def test_what_is_given_is_taken_first(tmp_path: Path) -> None:
    given = ModelWarmup(inputs={"x": WarmupInput(low=50, high=69)})
    path = put_onnx(tmp_path / "picked.onnx", _picked())
    assert not _opened(path, ServingSettings(model_warmup=(given,))).notes


def _opened(path: Path, settings: ServingSettings) -> OpenedModel:
    found = file_version(path)
    lowered, execution = found.lowered, Execution()
    source = ModelSource(
        "m", 1, lowered, lowered.signature, found.runtime, execution, settings, "", rows=found.rows
    )
    opened = open_model(source)
    for runner in opened.runners:
        runner.close()
    return opened


def test_floats_of_fixed_shapes_are_as_good_as_any() -> None:
    fixed, free = (TensorSpec("x", "float32", (None, 4)), TensorSpec("x", "float32", (None, None)))
    assert not may_be_unlucky(Signature((fixed,), ()))
    assert may_be_unlucky(Signature((free,), ()))
    assert may_be_unlucky(Signature((TensorSpec("x", "int64", (None, 4)),), ()))


def test_shapes_and_ranges_are_those_that_are_given() -> None:
    signature = Signature((TensorSpec("x", "int64", (None, None)),), ())
    (first, *_) = made_up_inputs(
        signature, [ModelWarmup(inputs={"x": WarmupInput(dims=(7,), low=3, high=5)})]
    )
    x = first.feed(signature, 4)["x"]
    assert x.shape == (4, 7)
    assert x.dtype == np.int64
    assert set(np.unique(x)) <= {3, 4, 5}


@pytest.mark.parametrize("rows", [1, 2])
def test_a_file_holds_one_row_or_all_of_a_batch(tmp_path: Path, rows: int) -> None:
    signature = Signature((TensorSpec("x", "float32", (None, 3)),), ())
    data = np.arange(3 * rows, dtype=np.float32)
    (tmp_path / "x.bin").write_bytes(data.tobytes())
    way = MadeUp(given={"x": WarmupInput(dims=(3,), file=str(tmp_path / "x.bin"))})
    assert np.array_equal(way.feed(signature, 4)["x"], np.resize(data, (4, 3)))


@pytest.mark.parametrize("content", [b"", b"abc", b"\0" * 20])
def test_a_file_of_another_size_is_no_input(tmp_path: Path, content: bytes) -> None:
    signature = Signature((TensorSpec("x", "float32", (None, 3)),), ())
    (tmp_path / "x.bin").write_bytes(content)
    way = MadeUp(given={"x": WarmupInput(dims=(3,), file=str(tmp_path / "x.bin"))})
    found, said = first_that_runs(iter([way]), lambda one: one.feed(signature, 1))
    assert found is None
    assert isinstance(said, RuntimeFailureError)
    assert str(tmp_path / "x.bin") in str(said)


def test_config_pbtxt_says_how(tmp_path: Path) -> None:
    text = """model_warmup [{ name: "one" batch_size: 2
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [4] zero_data: true } }
        inputs { key: "z" value { data_type: TYPE_STRING dims: [1] input_data_file: "z" } } }]"""
    config = parse_config(text, str(tmp_path / "config.pbtxt"))
    assert not config.notes
    assert config.settings.model_warmup == (
        ModelWarmup(
            name="one",
            batch_size=2,
            inputs={
                "x": WarmupInput(dims=(4,), data="zero"),
                "z": WarmupInput(dims=(1,), file=str(tmp_path / "warmup" / "z")),
            },
        ),
    )
