"""No verb opens a graph in the caller's process: what crashes in a runtime stays outside."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import onnx
import onnxruntime
import pytest
from ai_edge_litert import interpreter

import hasten
from hasten import Data, Settings, Way
from hasten.compress import Distill, PruneChannels, StaticInt8
from nets import saved_data, saved_net

_WAY = Way(rounds=0, cache=False)


@pytest.fixture(autouse=True)
def no_session_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tripwire, for this process alone: workers are programs of their own."""

    def tripped(*_: object, **__: object) -> NoReturn:
        pytest.fail("a session was opened in the caller's process")

    monkeypatch.setattr(onnxruntime, "InferenceSession", tripped)
    monkeypatch.setattr(interpreter, "Interpreter", tripped)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with a node for the cleaner to fold, which it does by running it."""
    path = saved_net(tmp_path_factory.mktemp("net"))
    proto = onnx.load(path)
    proto.graph.node.insert(0, onnx.helper.make_node("Neg", ["w1"], ["negated"]))
    proto.graph.node.insert(1, onnx.helper.make_node("Neg", ["negated"], ["w"]))
    proto.graph.node[2].input[1] = "w"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_data(tmp_path_factory.mktemp("data"))


def test_quantizing_and_converting(net: Path, data: Path, tmp_path: Path) -> None:
    step = StaticInt8(weights="w4", rounding="adaptive")
    made = hasten.quantize(net, data, out=tmp_path / "int8.tflite", steps=(step,), way=_WAY)
    hasten.convert(made.path, to="onnx", out=tmp_path / "again.onnx")


def test_a_pruned_student_is_taught_elsewhere(net: Path, data: Path, tmp_path: Path) -> None:
    student, step = PruneChannels(multiple=4), Distill(epochs=1)
    given = Data(data, training=data)
    hasten.distill(net, student, given, out=tmp_path / "student.onnx", step=step, way=_WAY)


def test_a_race_runs_all_of_its_candidates_elsewhere(net: Path, data: Path, tmp_path: Path) -> None:
    settings = Settings(runtimes=("onnxruntime", "litert"), time_s=8.0)
    hasten.optimize(net, data, out=tmp_path / "net.hasten", settings=settings, cache=False)
