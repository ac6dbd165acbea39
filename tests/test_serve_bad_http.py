"""Requests that are no HTTP, hide one in another, or are longer than they may be."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pytest

from bad_requests import BODY, PATH, ended, post
from served import Client, Served, message, serving
from served_models import put_onnx, scaled
from unharmed import good, unharmed_client

BODY_MB = 1.0
client = unharmed_client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("http")
    models = folder / "models"
    put_onnx(models / "scaled.onnx", scaled())
    flags = ("--transfer-timeout", "0.5s", "--body-mb", BODY_MB)
    with serving(models, *flags, folder=folder) as served:
        yield served


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
