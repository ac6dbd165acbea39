"""Requests share a batch only where rows were proven independent; others run alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from hasten.graph import Signature, model_from_proto
from hasten.graph.rows import UNREAD, RowVerdict
from hasten.runtimes import Arrays, Execution, get_runtime
from hasten.serve.engine.made_up import MadeUp
from hasten.serve.engine.row_proof import prove_rows
from inference_v2 import infer, outputs
from row_nets import APART, MIXED, row_net
from served import Served, serving, side_by_side
from served_models import entry

_CLIENTS = 6
#: Mixtures that every client sees: those of a batch as a whole, and of one row with another.
_SERVED = ("mean of all", "sum over rows before", "own number", "a scale of all", "first row")


@pytest.mark.parametrize("name", MIXED)
def test_running_rows_beside_others_shows_what_the_graph_would(tmp_path: Path, name: str) -> None:
    verdict = _proven(row_net(MIXED[name]), tmp_path, UNREAD)
    assert verdict.rows == "mixed", verdict


@pytest.mark.parametrize("name", APART)
def test_running_rows_beside_others_shows_that_they_are_apart(tmp_path: Path, name: str) -> None:
    assert _proven(row_net(APART[name]), tmp_path, UNREAD) == RowVerdict("independent")


def test_a_graph_that_is_known_to_mix_rows_is_not_run() -> None:
    graph = RowVerdict("mixed", "mean", "ReduceMean goes over all rows")
    assert prove_rows(_never, _signature(), MadeUp(), graph) == graph


@pytest.mark.parametrize("rows", ["independent", "unclear"])
def test_without_inputs_that_it_takes_the_graph_decides(rows: str) -> None:
    graph = RowVerdict(rows)  # type: ignore[arg-type]
    assert prove_rows(_never, _signature(), None, graph) == graph


def _never(feed: Arrays) -> Arrays:
    raise AssertionError(f"run with {list(feed)}")


def _signature() -> Signature:
    return model_from_proto(row_net(APART["matmul"]), "net").signature


def _proven(graph: onnx.ModelProto, folder: Path, known: RowVerdict) -> RowVerdict:
    runtime = get_runtime("onnxruntime")
    lowered = runtime.lower(model_from_proto(graph, "net"), folder)
    session = runtime.open(lowered, Execution())
    try:
        return prove_rows(session.run, lowered.signature, MadeUp(), known)
    finally:
        session.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("rows")
    for name in _SERVED:
        entry(folder / "models" / name.replace(" ", "-"), row_net(MIXED[name]))
    entry(folder / "models" / "apart", row_net(APART["attention"]))
    with serving(folder / "models", folder=folder) as served:
        yield served


@pytest.mark.parametrize("name", _SERVED)
def test_clients_side_by_side_get_the_answers_they_would_get_alone(
    server: Served, name: str
) -> None:
    model = name.replace(" ", "-")
    inputs = [np.full((1 + at % 2, 4, 6), at - 2.5, np.float32) * _ramp() for at in range(_CLIENTS)]
    with server.connect() as client:
        alone = [outputs(client.raw(infer(model, {"x": x})))["y"] for x in inputs]
    for _ in range(5):
        together = side_by_side(server, [infer(model, {"x": x}) for x in inputs])
        for answer, want in zip(together, alone, strict=True):
            assert np.array_equal(outputs(answer)["y"], want)


def _ramp() -> np.ndarray:
    return np.linspace(0.5, 1.5, 24, dtype=np.float32).reshape(4, 6)


def test_its_config_says_why(server: Served) -> None:
    with server.connect() as client:
        config = client.get("/v2/models/mean-of-all/config").document
        assert config["max_batch_size"] == 0
        assert (
            "rows are mixed: ReduceMean goes over all rows"
            in (config["parameters"]["rows"]["string_value"])
        )
        config = client.get("/v2/models/apart/config").document
        assert config["max_batch_size"] > 1
        assert config["parameters"]["rows"]["string_value"] == "rows are independent"


def test_the_log_says_why(tmp_path: Path) -> None:
    entry(tmp_path / "models" / "mean", row_net(MIXED["mean of all"]))
    with serving(tmp_path / "models", folder=tmp_path) as served:
        done = served.stop()
    said = "each request runs alone: rows are mixed: ReduceMean goes over all rows"
    assert said in done.err
