"""A server from start to end: what it refuses to start with, when it is ready, and how it stops."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from command_line import finish, hasten, start
from inference_v2 import infer, jsonned, outputs, path_of
from served import EXPLICIT, Client, Served, serving
from served_models import entry, put_null, put_onnx, scaled

X = np.array([[1, 2, 3, 4]], np.float32)
SLOW_NS = 50_000_000


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def connected(port: int) -> Client:
    """Connect as soon as somebody listens."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return Client(("127.0.0.1", port))


# What is refused at the start


def complaint(*arguments: object, folder: Path) -> str:
    return finish(start("serve", *arguments, folder=folder)).complaint


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    net = put_onnx(tmp_path / "net.onnx", scaled())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = complaint(net, "--http-port", port, folder=tmp_path)
    assert f"--http-port {port}" in said
    assert "use" in said


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: int) -> None:
    net = put_onnx(tmp_path / "net.onnx", scaled())
    assert "a port from 0 to 65535" in hasten("serve", net, f"--http-port={port}").complaint


@pytest.mark.parametrize("host", ["256.0.0.1", "no such host", "192.0.2.1", ":::"])
def test_an_address_that_is_not_here_is_refused(tmp_path: Path, host: str) -> None:
    net = put_onnx(tmp_path / "net.onnx", scaled())
    assert f"--host {host}" in complaint(net, "--host", host, "--http-port", 0, folder=tmp_path)


def test_a_path_is_needed() -> None:
    assert "a path to serve" in hasten("serve").complaint


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    said = complaint(tmp_path / "nothing", "--http-port", 0, folder=tmp_path)
    assert str(tmp_path / "nothing") in said


def test_a_model_that_does_not_load_is_refused(tmp_path: Path) -> None:
    put_null(tmp_path / "models" / "broken", fail="run")
    said = complaint(tmp_path / "models", "--http-port", 0, folder=tmp_path)
    assert "null could not run" in said


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [put_onnx(tmp_path / at / "net.onnx", scaled()) for at in "ab"]
    assert "two named 'net'" in complaint(*paths, "--http-port", 0, folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"batch": 1}', "batch"),
        ('{"max_batch_size": -1}', "max_batch_size"),
        ('{"max_batch_size": "8"}', "max_batch_size"),
        ('{"latency_goal_ms": 0}', "latency_goal_ms"),
        ('{"length_buckets": {"lengths": [8, 4], "mask": "m"}}', "length_buckets.lengths"),
        ('{"instances": 0}', "instances"),
    ],
)
def test_a_bad_config_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    net = put_onnx(tmp_path / "net.onnx", scaled())
    (tmp_path / "c.json").write_text(text)
    assert said in complaint(net, "--config", "c.json", "--http-port", 0, folder=tmp_path)


def test_a_config_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    net = put_onnx(tmp_path / "net.onnx", scaled())
    assert "--config" in hasten("serve", net, "--config", tmp_path / "c.json").complaint


@pytest.mark.parametrize(
    "flags",
    [
        ("--cache-mb", "0"),
        ("--cache-mb", "-1"),
        ("--cache-mb", "nan"),
        ("--cache-mb", "1", "--cache-ttl", "0"),
        ("--cache-mb", "1", "--cache-ttl", "soon"),
        ("--cache-policy", "fifo"),
        ("--body-mb", "0"),
        ("--body-mb", "inf"),
        ("--transfer-timeout", "0"),
        ("--transfer-timeout", "fast"),
    ],
)
def test_a_bad_flag_is_refused(tmp_path: Path, flags: tuple[str, ...]) -> None:
    net = put_onnx(tmp_path / "net.onnx", scaled())
    assert flags[-2] in hasten("serve", net, *flags).complaint


# Loading


def test_a_server_that_loads_is_live_and_not_ready(tmp_path: Path) -> None:
    put_null(tmp_path / "models" / "slow", serving={"max_batch_size": 2}, cost_ns=200_000_000)
    port = free_port()
    process = start("serve", "models", "--http-port", port, folder=tmp_path)
    with connected(port) as client:
        assert client.get("/v2/health/live").status == 200
        assert client.get("/v2/health/ready").status == 503
        assert client.get("/v2/models/slow/ready").status == 404
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready at")
        assert client.get("/v2/health/ready").status == 200
        assert client.get("/v2/models/slow/ready").status == 200
    process.send_signal(signal.SIGTERM)
    assert finish(process).status == 0


def test_a_server_can_be_stopped_while_it_loads(tmp_path: Path) -> None:
    put_null(tmp_path / "models" / "slow", serving={"max_batch_size": 32}, cost_ns=50_000_000)
    port = free_port()
    process = start("serve", "models", "--http-port", port, folder=tmp_path)
    with connected(port) as client:
        assert client.get("/v2/health/live").status == 200
        process.send_signal(signal.SIGTERM)
        done = finish(process)
    assert (done.status, done.out) == (0, "")


def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    net = put_onnx(tmp_path / "net.onnx", scaled())
    with serving(net, "--host", "::1", folder=tmp_path) as server:
        server.host = server.host.strip("[]")
        assert server.get("/v2/health/ready").status == 200


# The end


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Served]:
    put_null(tmp_path / "models" / "slow", serving={"max_batch_size": 0}, cost_ns=SLOW_NS)
    with serving(tmp_path / "models", folder=tmp_path) as server:
        yield server


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_requests_that_run_and_wait_are_answered_before_the_end(
    slow: Served, sign: signal.Signals
) -> None:
    with slow.connect() as client, slow.connect() as other:
        for one in (client, other):
            one.send(infer("slow", {"x": X}) * 4)
        while slow.statistics("slow")["execution_count"] < 1:
            pass
        done = slow.stop(sign)
        for one in (client, other):
            for _ in range(4):
                assert outputs(one.receive())["y"].shape == (1, 3)
            assert one.ended
    assert done.status == 0, done.err
    assert "Traceback" not in done.err


def test_who_asks_a_server_that_ends_is_told_to_try_again(slow: Served) -> None:
    with slow.connect() as client, slow.connect() as late:
        assert late.get("/v2/health/live").status == 200
        client.send(infer("slow", {"x": X}) * 10)
        while slow.statistics("slow")["execution_count"] < 1:
            pass
        slow.process.send_signal(signal.SIGTERM)
        while late.get("/v2/models/slow/ready").status == 200:
            pass
        answer = late.post(path_of("slow"), jsonned({"x": X}))
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert "shutting down" in answer.complaint
        for _ in range(10):
            assert client.receive().status == 200
    assert finish(slow.process).status == 0


def test_a_large_answer_is_sent_whole_before_the_end(tmp_path: Path) -> None:
    net = put_onnx(tmp_path / "wide.onnx", scaled(2.0, ("n", 1_000_000)))
    x = np.ones((8, 1_000_000), np.float32)
    with serving(net, folder=tmp_path) as server, server.connect() as client:
        client.send(infer("wide", {"x": x}))
        while server.statistics("wide")["execution_count"] < 1:
            pass
        server.process.send_signal(signal.SIGTERM)
        assert np.array_equal(outputs(client.receive())["y"], 2 * x)
        assert finish(server.process).status == 0


def test_who_asks_twice_does_not_wait(tmp_path: Path) -> None:
    put_null(tmp_path / "models" / "slow", serving={"max_batch_size": 0}, cost_ns=10**9)
    with serving(tmp_path / "models", folder=tmp_path) as server, server.connect() as client:
        client.send(infer("slow", {"x": X}) * 60)
        server.get("/v2/health/live")
        server.process.send_signal(signal.SIGTERM)
        while server_listens(server):
            pass
        server.process.send_signal(signal.SIGTERM)
        assert finish(server.process).status == -signal.SIGTERM


def server_listens(server: Served) -> bool:
    try:
        server.connect().socket.close()
    except ConnectionError:
        return False
    return True


# Loading and unloading while it runs


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[Served]:
    entry(repository / "net", scaled(1.0))
    put_null(repository / "slow", serving={"max_batch_size": 2}, cost_ns=SLOW_NS)
    with serving(repository, *EXPLICIT, folder=tmp_path) as served:
        yield served


def index(server: Served) -> dict[tuple[str, str], str]:
    document = server.post("/v2/repository/index").document
    return {(one["name"], one["version"]): one["state"] for one in document}


def test_a_model_that_is_unloaded_is_gone_until_it_is_loaded(server: Served) -> None:
    assert index(server) == {("net", "1"): "READY", ("slow", "1"): "READY"}
    assert server.post("/v2/repository/models/net/unload").status == 200
    assert index(server) == {("net", ""): "UNAVAILABLE", ("slow", "1"): "READY"}
    assert server.post(path_of("net"), jsonned({"x": X})).status == 404
    assert server.get("/v2/models/net/ready").status == 404
    assert server.post("/v2/repository/models/net/unload").status == 404
    assert server.post("/v2/repository/models/net/load").status == 200
    assert server.post(path_of("net"), jsonned({"x": X})).status == 200


def test_a_model_that_came_later_can_be_loaded(server: Served, repository: Path) -> None:
    entry(repository / "new", scaled(7.0))
    assert server.post(path_of("new"), jsonned({"x": X})).status == 404
    assert server.post("/v2/repository/models/new/load").status == 200
    assert np.array_equal(outputs(server.post(path_of("new"), jsonned({"x": X})))["y"], 7 * X)


def test_a_newer_version_takes_the_place_of_the_older(server: Served, repository: Path) -> None:
    entry(repository / "net", scaled(3.0), version=2)
    assert server.post("/v2/repository/models/net/load").status == 200
    assert ("net", "2") in index(server)
    assert np.array_equal(outputs(server.post(path_of("net"), jsonned({"x": X})))["y"], 3 * X)


def test_what_is_served_goes_on_where_a_reload_fails(server: Served, repository: Path) -> None:
    (repository / "net" / "1" / "model.onnx").write_bytes(b"nonsense")
    assert server.post("/v2/repository/models/net/load").status == 400
    assert server.post(path_of("net"), jsonned({"x": X})).status == 200
    entry(repository / "net", scaled(4.0))
    assert server.post("/v2/repository/models/net/load").status == 200
    assert np.array_equal(outputs(server.post(path_of("net"), jsonned({"x": X})))["y"], 4 * X)


def test_no_request_fails_while_a_model_is_reloaded(server: Served, repository: Path) -> None:
    ended = threading.Event()
    failed: list[str] = []

    def ask(model: str) -> None:
        with server.connect() as client:
            while not ended.is_set():
                answer = client.raw(infer(model, {"x": X}) * 1)
                if answer.status != 200:
                    failed.append(answer.complaint)

    threads = [threading.Thread(target=ask, args=(one,)) for one in ("net", "net", "slow", "slow")]
    threads += [threading.Thread(target=ask, args=("slow",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for factor in (2.0, 3.0, 4.0):
        entry(repository / "net", scaled(factor))
        for model in ("net", "slow"):
            assert server.post(f"/v2/repository/models/{model}/load").status == 200
        assert np.array_equal(
            outputs(server.post(path_of("net"), jsonned({"x": X})))["y"], factor * X
        )
    ended.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_requests_of_a_model_that_is_unloaded_are_answered(server: Served) -> None:
    with server.connect() as client:
        client.send(infer("slow", {"x": X}) * 9)
        while server.statistics("slow")["execution_count"] < 1:
            pass
        assert server.post("/v2/repository/models/slow/unload").status == 200
        for _ in range(9):
            assert client.receive().status == 200
