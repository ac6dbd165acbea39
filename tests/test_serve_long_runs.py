"""Requests whose runs take long, or do not end: nobody else waits for them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from command_line import finish
from inference_v2 import infer, outputs
from served import Client, Served, serving
from served_models import looping, put_bundle, put_null, put_onnx, scaled

ENDLESS = infer("loop", {"n": np.array([10**12])})
X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    models = tmp_path / "models"
    put_bundle(models / "loop", looping(), serving={"execution_limit_ms": 1000})
    put_onnx(models / "other.onnx", scaled())
    flags = ("--grace", "1s", "--model-control-mode", "explicit")
    with serving(models, *flags, folder=tmp_path) as served:
        yield served


def running(server: Served, client: Client) -> None:
    """Begin what does not end, and see that it has begun."""
    client.send(ENDLESS)
    server.get("/v2/health/live")  # once it is answered, the request before it has arrived


def test_a_run_without_end_is_stopped_at_its_limit_and_the_model_goes_on(server: Served) -> None:
    with server.connect() as client:
        running(server, client)
        assert server.raw(infer("other", {"x": X})).status == 200
        answer = client.receive()
        assert answer.status == 504
        assert "at most 1000 ms" in answer.complaint
        assert server.get("/v2/models/loop/ready").status == 200
        assert outputs(client.raw(infer("loop", {"n": np.array([3])})))["y"].shape == ()


def test_models_come_and_go_while_a_run_does_not_end(server: Served) -> None:
    with server.connect() as client:
        running(server, client)
        for what in ("loop/unload", "other/unload", "other/load"):
            assert server.post(f"/v2/repository/models/{what}").status == 200
        assert client.receive().status == 504


def test_a_signal_ends_the_process_within_its_grace_time(tmp_path: Path) -> None:
    put_onnx(tmp_path / "loop.onnx", looping())
    with serving(tmp_path / "loop.onnx", "--grace", "0.5s", folder=tmp_path) as server:
        with server.connect() as client:
            running(server, client)
            begin = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            done = finish(server.process)
        assert done.status == 1
        assert "grace time of 0.5 s" in done.err
        assert time.monotonic() - begin < 10


def test_an_executor_that_is_lost_makes_its_model_unready_until_it_is_back(tmp_path: Path) -> None:
    serve = {"max_batch_size": 0, "execution_limit_ms": 100}
    put_null(tmp_path / "models" / "slow", serving=serve, cost_ns=2_500_000_000)
    put_onnx(tmp_path / "models" / "other.onnx", scaled())
    with serving(tmp_path / "models", folder=tmp_path) as server:
        assert server.raw(infer("slow", {"x": X})).status == 504
        answer = server.get("/v2/models/slow/ready")
        assert answer.status == 503
        assert "did not come back" in answer.complaint
        assert server.get("/v2/health/ready").status == 503
        states = {one["name"]: one for one in server.post("/v2/repository/index").document}
        assert states["slow"]["state"] == "UNAVAILABLE"
        assert "did not come back" in states["slow"]["reason"]
        assert states["other"]["state"] == "READY"
        assert server.raw(infer("slow", {"x": X})).status == 503
        assert server.raw(infer("other", {"x": X})).status == 200
        while server.get("/v2/models/slow/ready").status != 200:
            pass
        assert server.get("/v2/health/ready").status == 200
