"""Clients that are slow, many or gone, and what they leave with the server: nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bad_requests import X, ended, post
from inference_v2 import infer, outputs
from served import Client, Served, eventually, serving
from served_models import put_null, put_onnx, scaled
from unharmed import good, unharmed_client

BODY_MB = 1.0
client = unharmed_client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients")
    models = folder / "models"
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "wide.onnx", scaled(2.0, ("n", 40_000)))
    put_null(models / "slow", serving={"max_batch_size": 0}, cost_ns=100_000_000)
    flags = ("--transfer-timeout", "0.5s", "--body-mb", BODY_MB)
    with serving(models, *flags, folder=folder) as served:
        yield served


# Clients that are slow


@pytest.mark.parametrize(
    "part",
    [
        b"G",
        b"GET /v2 HTTP/1.1\r\nHost:",
        post("Content-Length: 100", body=b"{"),
        post("Content-Length: 100000", body=b"{"),
        post("Transfer-Encoding: chunked", body=b"5\r\nhe"),
        infer("scaled", {"x": X})[:-1],
    ],
)
def test_a_request_that_does_not_end_is_given_up(client: Client, part: bytes) -> None:
    assert "0.5 s" in ended(client, part, 408).complaint


def test_an_answer_is_not_lost_to_the_slow_request_behind_it(client: Client) -> None:
    client.send(infer("slow", {"x": X}) + b"GET /v2")
    assert outputs(client.receive())["y"].shape == (1, 3)
    assert client.receive().status == 408
    assert client.ended


def test_a_client_that_takes_no_answers_is_given_up(server: Served) -> None:
    x = np.ones((5, 40_000), np.float32)
    data = infer("wide", {"x": x})
    with server.connect() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.send(data * 400)
    with server.connect() as other:
        good(other)


def test_an_idle_connection_is_not_given_up_as_slow(server: Served) -> None:
    with server.connect() as idle, server.connect() as slow:
        good(idle)
        ended(slow, b"G", 408)
        good(idle)


# Clients that vanish


def reset(client: Client) -> None:
    """Hang up so that the other side is told of an error."""
    linger = struct.pack("ii", 1, 0)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.socket.close()


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_client_may_vanish_at_any_time(server: Served, how: str) -> None:
    data = infer("scaled", {"x": X}) * 2
    with server.connect() as other:
        for at in range(0, len(data), 7):
            client = server.connect()
            client.send(data[:at])
            if how == "reset":
                reset(client)
            client.socket.close()
            good(other)


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_requests_of_a_client_that_vanished_are_not_run(server: Served, how: str) -> None:
    before = server.statistics("slow")
    with server.connect() as first, server.connect() as last:
        first.send(infer("slow", {"x": X}))  # it occupies the executor
        server.get("/v2/health/live")
        with server.connect() as client:
            client.send(infer("slow", {"x": X}) * 5)
            server.get("/v2/health/live")
            if how == "reset":
                reset(client)
        server.get("/v2/health/live")
        last.send(infer("slow", {"x": X}))
        assert first.receive().status == 200
        assert last.receive().status == 200
    after = server.statistics("slow")
    assert after["execution_count"] - before["execution_count"] == 2
    failed = [one["inference_stats"]["fail"]["count"] for one in (before, after)]
    assert failed[1] - failed[0] == 5


def test_many_connections_that_come_and_go_leave_nothing_behind(server: Served) -> None:
    open_files = Path(f"/proc/{server.process.pid}/fd")
    # Memory for as many as are ever open at once is taken once.
    for _ in range(4):
        drop_many(server)
    files, memory = len(list(open_files.iterdir())), resident_bytes(server)
    drop_many(server)
    eventually(lambda: len(list(open_files.iterdir())) <= files)
    assert resident_bytes(server) - memory < 16_000_000
    with server.connect() as client:
        good(client)


def test_a_body_that_is_promised_and_not_sent_takes_no_memory(server: Served) -> None:
    promise = post(f"Content-Length: {int(BODY_MB * 1e6)}", body=b"{")
    before = resident_bytes(server)
    with contextlib.ExitStack() as opened:
        for _ in range(300):
            opened.enter_context(server.connect()).send(promise)
        server.get("/v2/health/live")
        assert open_connections(server) > 300
        assert resident_bytes(server) - before < 60_000_000


def drop_many(server: Served) -> None:
    parts = [b"", b"GET /v2", post("Content-Length: 100", body=b"{"), infer("scaled", {"x": X})]
    clients = [socket.create_connection(server.address) for _ in range(2000)]
    for at, one in enumerate(clients):
        one.sendall(parts[at % len(parts)])
    for one in clients:
        one.close()
    eventually(lambda: open_connections(server) == 1)


def open_connections(server: Served) -> int:
    lines = server.get("/metrics").body.decode().splitlines()
    return next(int(one.split()[1]) for one in lines if one.startswith("hasten_open_connections "))


def resident_bytes(server: Served) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
