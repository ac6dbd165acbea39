"""Where one request ends and the next begins: the same bytes mean the same, however they come.

Each framing hides a request in what is, by HTTP/1.1, a body, or behind a head that can be read in
two ways; that request must never be reached.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest

from inference_v2 import infer, jsonned, path_of
from served import Client, Served, executions, message, serving
from served_models import put_onnx, scaled

X = np.array([[1, 2, 3, 4]], np.float32)
#: A request that is forbidden, and bodies around it.
HIDDEN = infer("hidden", {"x": X})
LIVE = message("GET", "/v2/health/live")
ZERO = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("framing")
    for name in ("scaled", "hidden"):
        put_onnx(folder / "models" / f"{name}.onnx", scaled())
    with serving(folder / "models", folder=folder) as served:
        yield served


class Framing(NamedTuple):
    name: str
    data: bytes
    statuses: list[int]
    closes: bool


def post(
    *lines: str, body: bytes = b"", first: str = "POST {} HTTP/1.1", host: str = "Host: a\r\n"
) -> bytes:
    head = first.format(path_of("scaled")) + "\r\n" + host + "".join(f"{one}\r\n" for one in lines)
    return head.encode("latin-1") + b"\r\n" + body


def length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


def refused(name: str, *lines: str, status: int = 400, **more: str) -> Framing:
    """A head that says two things at once: one refusal, and the connection ends."""
    return Framing(name, post(*lines, body=ZERO + HIDDEN, **more), [status], closes=True)


def in_body(name: str, *lines: str, status: int = 400, **more: str) -> Framing:
    """A body that is a request: it is no JSON, and nothing else."""
    return Framing(name, post(*lines, length(HIDDEN), body=HIDDEN, **more), [status], closes=False)


def in_chunks(name: str, chunks: bytes, status: int = 400, *, closes: bool = True) -> Framing:
    data = post("Transfer-Encoding: chunked", body=chunks)
    return Framing(name, data, [status], closes=closes)


def first(name: str, line: str, status: int = 400) -> Framing:
    return Framing(name, line.encode("latin-1") + b"\r\nHost: a\r\n\r\n" + HIDDEN, [status], True)


CHUNKED = "Transfer-Encoding: chunked"
JSON = jsonned({"x": X})
CHUNK = b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN)
FIVE = "Content-Length: 5"

FRAMINGS = [
    # Lengths
    refused("the same length twice", FIVE, FIVE),
    refused("two lengths", FIVE, "content-length: 6"),
    refused("a list of equal lengths", "Content-Length: 5, 5"),
    refused("a list of lengths", "Content-Length: 5, 6"),
    refused("a length with a plus", "Content-Length: +5"),
    refused("a negative length", "Content-Length: -5"),
    refused("a negative zero", "Content-Length: -0"),
    refused("a length in hexadecimal", "Content-Length: 0x5"),
    refused("a length with an underscore", "Content-Length: 1_0"),
    refused("a length with a blank", "Content-Length: 5 5"),
    refused("a length with a point", "Content-Length: 5.0"),
    refused("a length with an exponent", "Content-Length: 5e0"),
    refused("a length in quotes", 'Content-Length: "5"'),
    refused("a length with a parameter", "Content-Length: 5;a=1"),
    refused("an empty length", "Content-Length:"),
    refused("a length of blanks", "Content-Length:   "),
    refused("a length of other digits", "Content-Length: \u00b2"),
    refused("a length beyond 64 bits", "Content-Length: 18446744073709551621"),
    refused("a length beyond 63 bits", "Content-Length: 9223372036854775808"),
    refused("a length of 5,000 digits", "Content-Length: " + "9" * 5000),
    refused("a vertical tab before a length", "Content-Length:\x0b5"),
    refused("a form feed behind a length", "Content-Length: 5\x0c"),
    refused("a length that is too long", "Content-Length: 99999999999", status=413),
    Framing("a length of 0", post("Content-Length: 0", body=LIVE), [400, 200], False),
    Framing("no length", post(body=LIVE), [400, 200], False),
    Framing(
        "blanks around a length",
        post(f"Content-Length: \t {len(HIDDEN)} \t", body=HIDDEN),
        [400],
        False,
    ),
    # Lengths and chunks
    refused("a length and chunks", FIVE, CHUNKED),
    refused("chunks and a length", CHUNKED, FIVE),
    refused("chunks and a length of 0", CHUNKED, "Content-Length: 0"),
    refused("chunks twice", CHUNKED, CHUNKED),
    refused("chunks in chunks", "Transfer-Encoding: chunked, chunked", status=501),
    refused("chunks, then identity", "Transfer-Encoding: chunked, identity", status=501),
    refused("gzip, then chunks", "Transfer-Encoding: gzip, chunked", status=501),
    refused("chunks on a second line", "Transfer-Encoding: gzip", CHUNKED, status=501),
    refused("an encoding of a like name", "Transfer-Encoding: xchunked", status=501),
    refused("chunks with a parameter", "Transfer-Encoding: chunked;a=1", status=501),
    refused("chunks in quotes", 'Transfer-Encoding: "chunked"', status=501),
    refused("identity", "Transfer-Encoding: identity", status=501),
    refused("an empty encoding", "Transfer-Encoding:", status=501),
    refused("a list that begins empty", "Transfer-Encoding: , chunked", status=501),
    refused("a vertical tab before chunked", "Transfer-Encoding:\x0bchunked"),
    refused("a NUL behind chunked", "Transfer-Encoding: chunked\x00"),
    refused("chunks in HTTP/1.0", CHUNKED, first="POST {} HTTP/1.0"),
    Framing(
        "chunked in capitals", post("TRANSFER-ENCODING: cHuNkEd", body=CHUNK + ZERO), [400], False
    ),
    Framing(
        "chunked between tabs",
        post("Transfer-Encoding:\tchunked\t", body=CHUNK + ZERO),
        [400],
        False,
    ),
    # Lines
    refused("a blank before the colon", "Content-Length : 5"),
    refused("a tab before the colon", "Content-Length\t: 5"),
    refused("a blank before the colon of chunks", "Transfer-Encoding : chunked"),
    refused("a line that goes on", "X: a", " Content-Length: 5"),
    refused("a line that goes on behind a tab", "X: a", "\tTransfer-Encoding: chunked"),
    refused("a first line that goes on", " X: a", host=""),
    refused("no colon", "Content-Length 5"),
    refused("no name", ": 5"),
    refused("a NUL in a name", "X\x00: a"),
    refused("a NUL in a value", "X: a\x00b"),
    refused("a bare CR in a value", "X: a\rContent-Length: 5"),
    refused("a bare LF", "X: a\nContent-Length: 5"),
    refused("a bare LF alone", "X: a\n"),
    refused("a CR too many", "X: a\r"),
    refused("a control character", "X: \x1b[2J"),
    refused("a delete character", "X: \x7f"),
    refused("a name that is no token", "Content(Length): 5"),
    refused("a name beyond ASCII", "Content-L\u00e9ngth: 5"),
    refused("two hosts", "Host: b"),
    refused("no host", FIVE, host=""),
    refused("two encodings of the content", "Content-Encoding: gzip", "Content-Encoding: gzip"),
    refused(
        "two lengths of the JSON",
        "Inference-Header-Content-Length: 1",
        "Inference-Header-Content-Length: 2",
    ),
    refused("a negative length of the JSON", "Inference-Header-Content-Length: -1"),
    Framing(
        "a head that ends in LF", post("X: a").replace(b"\r\n\r\n", b"\n\n") + HIDDEN, [400], True
    ),
    Framing("a head that ends in CR CR", post("X: a")[:-2] + b"\r\r\n" + HIDDEN, [400], True),
    # Other protocols, and what is expected
    in_body("an upgrade to a socket", "Connection: Upgrade", "Upgrade: websocket"),
    in_body("an upgrade among others", "Connection: keep-alive, Upgrade", "Upgrade: websocket"),
    in_body(
        "an upgrade to HTTP/2",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    ),
    in_body("an upgrade by name alone", "Upgrade: websocket"),
    in_body("an upgrade by word alone", "Connection: upgrade"),
    in_body("an upgrade to nothing", "Connection: upgrade", "Upgrade:"),
    in_body(
        "an upgrade of GET",
        "Connection: Upgrade",
        "Upgrade: websocket",
        first="GET {} HTTP/1.1",
        status=405,
    ),
    Framing(
        "an upgrade in chunks",
        post("Connection: Upgrade", "Upgrade: websocket", CHUNKED, body=CHUNK + ZERO),
        [400],
        False,
    ),
    in_body("a length that a proxy is to take away", "Connection: Content-Length"),
    in_body("a coding that may come back", "TE: trailers, chunked"),
    in_body("a body of GET", first="GET {} HTTP/1.1", status=405),
    in_body("a body of DELETE", first="DELETE {} HTTP/1.1", status=405),
    Framing(
        "a body of HEAD", post(length(HIDDEN), body=HIDDEN, first="HEAD {} HTTP/1.1"), [405], False
    ),
    first("CONNECT", "CONNECT a:80 HTTP/1.1", 501),
    Framing(
        "CONNECT with a body",
        post(length(HIDDEN), body=HIDDEN, first="CONNECT {} HTTP/1.1"),
        [501],
        True,
    ),
    Framing(
        "a body that is to be asked for",
        post("Expect: 100-continue", length(HIDDEN), body=HIDDEN),
        [100, 400],
        False,
    ),
    refused("something else is expected", "Expect: 200-ok", FIVE, status=417),
    in_body(
        "a body that is to be asked for, in HTTP/1.0",
        "Expect: 100-continue",
        "Connection: keep-alive",
        first="POST {} HTTP/1.0",
    ),
    # First lines
    first("HTTP/0.9", "GET /v2"),
    first("HTTP/9.9", "GET /v2 HTTP/9.9", 505),
    first("HTTP/2.0", "PRI * HTTP/2.0", 505),
    first("two digits of a version", "GET /v2 HTTP/1.10"),
    first("a version that begins with 0", "GET /v2 HTTP/01.1"),
    first("a version in small letters", "GET /v2 http/1.1"),
    first("a version of one number", "GET /v2 HTTP/1"),
    first("a blank behind the version", "GET /v2 HTTP/1.1 "),
    first("two blanks", "GET  /v2 HTTP/1.1"),
    first("a tab for a blank", "GET\t/v2 HTTP/1.1"),
    first("a blank in the target", "GET /v2 /a HTTP/1.1"),
    first("a method in small letters", "get /v2 HTTP/1.1"),
    first("a target without a slash", "GET v2 HTTP/1.1"),
    first("a fragment in the target", "GET /v2#a HTTP/1.1"),
    first("a blank before the method", " GET /v2 HTTP/1.1"),
    Framing(
        "HTTP/1.0 ends",
        post(length(HIDDEN), body=HIDDEN + HIDDEN, first="POST {} HTTP/1.0"),
        [400],
        True,
    ),
    Framing(
        "a client that ends",
        post("Connection: close", length(HIDDEN), body=HIDDEN * 2),
        [400],
        True,
    ),
    Framing(
        "a client that ends and stays",
        post("Connection: keep-alive, close", length(HIDDEN), body=HIDDEN * 2),
        [400],
        True,
    ),
    Framing(
        "a target with its server", post(first="GET http://a/v2/health/live HTTP/1.1"), [200], False
    ),
    Framing("empty lines before", b"\r\n\r\n" + LIVE, [200], False),
    # Chunks
    in_chunks("a request in a chunk", CHUNK + ZERO, closes=False),
    in_chunks(
        "a chunk and JSON", b"%x;a=b\r\n%b\r\n" % (len(JSON), JSON) + ZERO, 200, closes=False
    ),
    in_chunks(
        "a size with leading zeros", b"00%x\r\n%b\r\n" % (len(JSON), JSON) + ZERO, 200, closes=False
    ),
    in_chunks("trailers", CHUNK + b"0\r\nContent-Length: 5\r\nX: a\r\n\r\n", closes=False),
    in_chunks("a size with a minus", b"-1\r\n" + HIDDEN),
    in_chunks("a size with a plus", b"+5\r\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("a size with 0x", b"0x5\r\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("a size with an underscore", b"0_5\r\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("a blank before a size", b" 5\r\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("a blank behind a size", b"5 \r\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("no size", b"\r\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("a size that is no number", b"g\r\n" + HIDDEN),
    in_chunks("a size beyond 64 bits", b"1" + b"0" * 16 + b"\r\n" + HIDDEN),
    in_chunks("a size that is too long", b"fffffffffff\r\n" + HIDDEN, 413),
    in_chunks("a size that ends in LF", b"5\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("a size that ends in CR", b"5\rhello\r\n" + ZERO + HIDDEN),
    in_chunks("an extension with a bare CR", b"5;a\rb\r\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("an extension with a bare LF", b"5;a\nb\r\nhello\r\n" + ZERO + HIDDEN),
    in_chunks("an extension without end", b"5;" + b"a" * 5000 + b"\r\nhello\r\n" + ZERO, 431),
    in_chunks("a chunk that is longer", b"5\r\nhello!\r\n" + ZERO + HIDDEN),
    in_chunks("a chunk that ends in LF", b"5\r\nhello\n" + ZERO + HIDDEN),
    in_chunks("a chunk without end", b"5\r\nhello" + ZERO + HIDDEN),
    in_chunks("a last chunk that goes on", b"0\r\n" + HIDDEN),
    in_chunks("a trailer that goes on", b"0\r\nX: a\r\n b\r\n\r\n" + HIDDEN),
    in_chunks("a trailer with a bare LF", b"0\r\nX: a\nY: b\r\n\r\n" + HIDDEN),
]


def whole(client: Client, data: bytes) -> None:
    client.send(data)


def byte_by_byte(client: Client, data: bytes) -> None:
    for at in range(len(data)):
        client.send(data[at : at + 1])


def head_and_body(client: Client, data: bytes) -> None:
    end = data.find(b"\r\n\r\n") + 4
    client.send(data[:end])
    client.send(data[end:])


WAYS = [whole, byte_by_byte, head_and_body]


def answers(client: Client, framing: Framing, send: Callable[[Client, bytes], None]) -> list[int]:
    """The statuses that a framing comes to, and whether the connection is as it is to be."""
    try:
        send(client, framing.data)
    except (BrokenPipeError, ConnectionResetError):
        assert framing.closes
    bodiless = framing.data.startswith(b"HEAD")
    found = [client.receive(bodiless=bodiless).status for _ in framing.statuses]
    if framing.closes:
        assert client.ended, "what was behind it was answered"
    else:
        assert client.raw(LIVE).status == 200
    return found


def test_there_are_enough_framings() -> None:
    assert len({one.name for one in FRAMINGS}) == len(FRAMINGS) >= 82


@pytest.mark.parametrize("framing", FRAMINGS, ids=[one.name for one in FRAMINGS])
def test_the_same_bytes_mean_the_same(server: Served, framing: Framing) -> None:
    before = executions(server, "hidden")
    for send in [*WAYS, whole, head_and_body]:  # by then its head might be remembered
        with server.connect() as client:
            assert answers(client, framing, send) == framing.statuses
    with server.connect() as client:  # two requests in a read
        behind = framing._replace(data=LIVE + framing.data, statuses=[200, *framing.statuses])
        if not framing.data.startswith(b"HEAD"):
            assert answers(client, behind, whole) == behind.statuses
    assert executions(server, "hidden") == before


def test_a_request_to_stay_is_confirmed_in_http_1_0(server: Served) -> None:
    data = post("Connection: keep-alive", first="GET /v2/health/live HTTP/1.0")
    with server.connect() as client:
        for _ in range(2):
            assert client.raw(data).headers["connection"] == "keep-alive"
        assert "connection" not in client.raw(LIVE).headers


def test_every_framing_says_what_was_expected(server: Served) -> None:
    for framing in FRAMINGS:
        if framing.closes and framing.statuses[0] >= 400:
            with server.connect() as client:
                client.send(framing.data)
                assert re.match("Expected ", client.receive().complaint)
