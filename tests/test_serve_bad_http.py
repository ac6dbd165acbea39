"""Requests that are no HTTP, or hide one in another, and clients that are slow, many or gone."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference_v2 import infer, jsonned, outputs, path_of
from served import Answer, Client, Served, eventually, message, serving
from served_models import put_null, put_onnx, scaled
from unharmed import good, unharmed

X = np.array([[1, 2, 3, 4]], np.float32)
BODY = jsonned({"x": X})
PATH = path_of("scaled")
BODY_MB = 1.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("http")
    models = folder / "models"
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "wide.onnx", scaled(2.0, ("n", 40_000)))
    put_null(models / "slow", serving={"max_batch_size": 0}, cost_ns=100_000_000)
    flags = ("--transfer-timeout", "0.5s", "--body-mb", BODY_MB)
    with serving(models, *flags, folder=folder) as served:
        yield served


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    """A connection that may be ended; all others must go on."""
    with unharmed(server) as connected:
        yield connected


def ended(client: Client, data: bytes, status: int = 400) -> Answer:
    """Send what ends a connection, and see that it is told why."""
    client.send(data)
    answer = client.receive()
    assert answer.status == status, answer
    assert answer.headers["connection"] == "close"
    assert answer.complaint
    assert client.ended
    return answer


def post(*headers: str, body: bytes = BODY) -> bytes:
    return "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: a", *headers, "", ""]).encode() + body


HIDDEN = message("GET", "/v2/hidden")


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "content-length: 6"],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: -5"],
        ["Content-Length: 0x10"],
        ["Content-Length: 5 5"],
        ["Content-Length: "],
        ["Content-Length: 5.0"],
        ["Content-Length: \u00b2"],
        ["Content-Length: 99999999999999999999999"],
        ["Content-Length: " + "9" * 5000],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding:\x0bchunked"],
        ["Transfer-Encoding : chunked"],
        ["Content-Length : 5"],
        ["Content-Length\t: 5"],
        ["X: a", " Content-Length: 5"],
        ["X: a", "\tTransfer-Encoding: chunked"],
        ["X\x00: a"],
        ["X: a\x00b"],
        ["X: a\rContent-Length: 5"],
        ["no colon"],
        [": no name"],
        ["Inference-Header-Content-Length: -1", "Content-Length: 5"],
        ["Inference-Header-Content-Length: 1e3", "Content-Length: 5"],
    ],
)
def test_a_length_that_can_be_read_in_two_ways_ends_the_connection(
    client: Client, headers: list[str]
) -> None:
    data = post(*headers, body=b"0\r\n\r\n" + HIDDEN)
    client.send(data)
    answer = client.receive()
    assert answer.status in {400, 413, 501}, answer
    assert answer.complaint
    assert client.ended, "what was hidden in the body was answered"


@pytest.mark.parametrize(
    "line",
    [
        b"GET",
        b"GET /v2",
        b"get /v2 HTTP/1.1",
        b"GE\x00T /v2 HTTP/1.1",
        b"GET /v2\x00 HTTP/1.1",
        b"GET /v2 HTTP/9.9",
        b"GET /v2 HTTP/2.0",
        b"GET /v2 HTP/1.1",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff" * 50,
    ],
)
def test_a_first_line_that_is_no_http_ends_the_connection(client: Client, line: bytes) -> None:
    client.send(line + b"\r\nHost: a\r\n\r\n" + HIDDEN)
    answer = client.receive()
    assert answer.status in {400, 505}, answer
    assert answer.complaint
    assert client.ended


def test_empty_lines_before_a_request_are_never_kept_as_a_head(server: Served) -> None:
    with server.connect() as client:
        client.send(b"\r\n\r\n" + message("GET", "/v2/hidden"))
        assert client.receive().status == 404
    with server.connect() as client:
        client.send(b"\r\n\r\n")
        good(client)


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n"])
def test_a_head_that_ends_otherwise_is_never_kept(server: Served, end: bytes) -> None:
    head = b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: %d" % len(BODY)
    for _ in range(3):
        with server.connect() as client:
            client.send(head + end + BODY + b"\r\n\r\n")
            assert client.receive().status in {200, 400}
        with server.connect() as client:
            good(client)


@pytest.mark.parametrize("size", [b"-1", b"0x5", b"g", b"", b"+5", b"5 5", b"f" * 17, b"\xff"])
def test_a_chunk_of_no_size_ends_the_connection(client: Client, size: bytes) -> None:
    ended(client, post("Transfer-Encoding: chunked", body=size + b"\r\nhello\r\n0\r\n\r\n"))


def test_a_chunk_that_does_not_end_where_it_should_ends_the_connection(client: Client) -> None:
    ended(client, post("Transfer-Encoding: chunked", body=b"5\r\nhelloX\r\n0\r\n\r\n"))


def test_a_body_longer_than_the_limit_is_refused_before_it_is_sent(client: Client) -> None:
    ended(client, post(f"Content-Length: {int(BODY_MB * 1e6) + 1}", body=b""), 413)


def test_a_body_longer_than_the_limit_is_refused_in_chunks(client: Client) -> None:
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
    head = post("Transfer-Encoding: chunked", body=b"")
    ended(client, head + chunk * 16, 413)


def test_a_body_as_long_as_the_limit_is_read(client: Client) -> None:
    answer = client.post(PATH, b" " * int(BODY_MB * 1e6))
    assert answer.status == 400
    assert "JSON" in answer.complaint


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_zip_bomb_is_refused_once_it_is_too_long(client: Client, encoding: str) -> None:
    plain = bytes(100_000_000)
    bomb = gzip.compress(plain, 1, mtime=0) if encoding == "gzip" else zlib.compress(plain, 1)
    answer = client.post(PATH, bomb, Content_Encoding=encoding)
    assert answer.status == 413
    assert "decompressed" in answer.complaint
    good(client)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", BODY, 400),
        ("gzip", gzip.compress(BODY, mtime=0)[:-4], 400),
        ("gzip", gzip.compress(BODY, mtime=0) + b"more", 400),
        ("gzip", b"", 400),
        ("deflate", gzip.compress(BODY, mtime=0), 400),
        ("br", BODY, 415),
        ("gzip, gzip", BODY, 415),
    ],
)
def test_a_body_that_is_not_compressed_as_it_says_is_refused(
    client: Client, encoding: str, body: bytes, status: int
) -> None:
    answer = client.post(PATH, body, Content_Encoding=encoding)
    assert answer.status == status
    assert answer.complaint
    good(client)


@pytest.mark.parametrize("kind", ["one", "many", "endless", "target", "chunk"])
def test_a_head_longer_than_the_limit_is_refused(client: Client, kind: str) -> None:
    data = {
        "one": post("X: " + "a" * 70_000),
        "many": post(*["Name: value"] * 10_000),
        "endless": post()[:-4].partition(b"\r\n\r\n")[0] + b"\r\nX: " + b"a" * 300_000,
        "target": b"GET /" + b"a" * 300_000,
        "chunk": post("Transfer-Encoding: chunked", body=b"1;" + b"a" * 300_000),
    }[kind]
    try:
        client.send(data)
        assert client.receive().status == 431
    except ConnectionResetError:
        pass  # it was told so before it had sent all
    assert client.ended


def test_a_request_without_a_length_has_no_body(client: Client) -> None:
    client.send(post(body=b""))
    assert "JSON" in client.receive().complaint
    good(client)


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
