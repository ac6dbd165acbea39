"""What many, slow or greedy clients hold is counted, bounded, and taken from them for others."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bad_requests import post
from inference_v2 import infer, outputs
from onnx_models import model, value
from served import Client, Served, eventually, message, serving
from served_models import put_onnx, scaled

X = np.array([[1, 2, 3, 4]], np.float32)
LARGE = np.ones((1, 200_000), np.float32)
ANSWER = 1 << 18


def widened() -> onnx.ModelProto:
    """x[n,1] to 1 MB a row."""
    shape = numpy_helper.from_array(np.array([1, ANSWER], np.int64), "shape")
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    values = [value("x", ["n", 1])], [value("y", ["n", ANSWER])]
    return model([node], *values, [shape])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("limits")
    models = folder / "models"
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "wide.onnx", scaled(2.0, ("n", 200_000)))
    put_onnx(models / "widened.onnx", widened())
    flags = ("--body-mb", 1, "--body-memory-mb", 2, "--transfer-timeout", "20s")
    with serving(models, *flags, folder=folder) as served:
        yield served


def figure(server: Served, name: str) -> float:
    lines = server.get("/metrics").body.decode().splitlines()
    return next(float(one.split()[1]) for one in lines if one.startswith(f"hasten_{name} "))


def good(client: Client) -> None:
    assert np.array_equal(outputs(client.raw(infer("scaled", {"x": X})))["y"], 2 * X)


def test_promised_bodies_hold_what_has_come_of_them(server: Served) -> None:
    promise = post("Content-Length: 900000", body=b"{")
    with contextlib.ExitStack() as opened:
        for _ in range(99):
            opened.enter_context(server.connect()).send(promise)
        eventually(lambda: figure(server, "open_connections") > 99)
        assert figure(server, "body_bytes") < 500_000
        with server.connect() as other:
            assert other.raw(infer("wide", {"x": LARGE})).status == 200
    eventually(lambda: figure(server, "body_bytes") == 0)


def test_who_holds_memory_and_does_not_go_on_makes_room_for_others(server: Served) -> None:
    data = infer("wide", {"x": LARGE})
    with server.connect() as first, server.connect() as second, server.connect() as other:
        for slow in (first, second):
            slow.send(data[:-1])
        eventually(lambda: figure(server, "body_bytes") > 1_600_000)
        eventually(lambda: other.raw(data).status == 200)
        assert first.receive().status == 408
        assert first.ended
        good(other)


def test_bodies_that_were_admitted_together_all_end(server: Served) -> None:
    """Three do not fit at once; each was admitted when little of the others had come."""
    data = infer("wide", {"x": LARGE})
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(3)]
        for client in clients:
            client.send(data[:2000])
        eventually(lambda: figure(server, "body_bytes") > 3 * 1000)
        senders = [threading.Thread(target=one.send, args=(data[2000:],)) for one in clients]
        for sender in senders:
            sender.start()
        assert [client.receive().status for client in clients] == [200] * 3
        for sender in senders:
            sender.join()


def test_tiny_chunks_hold_no_more_than_their_bytes(server: Served) -> None:
    before = resident_bytes(server)
    with server.connect() as client:
        client.send(post("Transfer-Encoding: chunked", body=b""))
        for _ in range(25):
            client.send(b"2\r\nAA\r\n" * 10_000)
        eventually(lambda: figure(server, "body_bytes") >= 499_000)
        assert resident_bytes(server) - before < 10_000_000
        client.send(b"0\r\n\r\n")
        assert client.receive().status == 400


def test_answers_that_nobody_takes_are_not_computed(server: Served) -> None:
    before = resident_bytes(server)
    with server.connect() as client:
        client.send(infer("widened", {"x": np.ones((1, 1), np.float32)}) * 40)
        eventually(lambda: figure(server, "answer_bytes") > 0)
        time.sleep(0.3)  # what might be computed would be by now
        assert resident_bytes(server) - before < 40_000_000
        assert 0 < figure(server, "answer_bytes") < 4_000_000
        lengths = [len(client.receive().body) for _ in range(40)]
        assert min(lengths) > ANSWER * 4
    eventually(lambda: figure(server, "answer_bytes") == 0)


def test_a_flood_of_cheap_requests_lets_others_through(server: Served) -> None:
    with server.connect() as client:
        client.socket.settimeout(1)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(TimeoutError):
            client.send(message("GET", "/metrics") * 20_000)
        before = resident_bytes(server)
        with server.connect() as other:
            good(other)
        assert resident_bytes(server) - before < 20_000_000


def test_idle_and_slow_connections_make_room_for_honest_ones(tmp_path: Path) -> None:
    put_onnx(tmp_path / "models" / "scaled.onnx", scaled())
    parts = (b"", b"G", post("Content-Length: 100", body=b"{"), message("GET", "/v2"))
    with serving(tmp_path / "models", folder=tmp_path, descriptors=96) as server:
        with contextlib.ExitStack() as opened, server.connect() as lasting:
            for at in range(300):
                opened.enter_context(server.connect()).send(parts[at % len(parts)])
                if at % 10 == 0:
                    good(lasting)
                    with server.connect() as new:
                        good(new)
            descriptors = Path(f"/proc/{server.process.pid}/fd")
            assert len(list(descriptors.iterdir())) < 96
            assert figure(server, "open_connections") <= 64
        with server.connect() as new:
            good(new)


def resident_bytes(server: Served) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
