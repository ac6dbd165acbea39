"""HTTP/1.1 over a real socket: connections that stay, heads in pieces, requests in a row."""

from __future__ import annotations

import gzip
import itertools
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from inference_v2 import infer, jsonned, outputs, path_of
from served import Client, Served, message, serving
from served_models import put_null, put_onnx, scaled

X = np.array([[1, 2, 3, 4]], np.float32)
SLOW_NS = 60_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("connections")
    models = folder / "models"
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "wide.onnx", scaled(2.0, ("n", 40_000)))
    put_null(models / "slow", serving={"max_batch_size": 2}, cost_ns=SLOW_NS)
    with serving(models, folder=folder) as served:
        yield served


def request(factor: float = 1.0, model: str = "scaled") -> bytes:
    return infer(model, {"x": X * factor})


def test_a_connection_stays_for_many_requests(client: Client) -> None:
    for factor in range(100):
        assert np.array_equal(outputs(client.raw(request(factor)))["y"], 2 * factor * X)


def test_requests_sent_at_once_are_answered_in_their_order(client: Client) -> None:
    factors = range(50)
    client.send(b"".join(map(request, factors)))
    for factor in factors:
        assert np.array_equal(outputs(client.receive())["y"], 2 * factor * X)


def test_more_requests_than_may_wait_are_all_answered(client: Client) -> None:
    client.send(request(model="slow") + b"".join(map(request, range(700))))
    assert not outputs(client.receive())["y"].any()
    for factor in range(700):
        assert np.array_equal(outputs(client.receive())["y"], 2 * factor * X)
    assert client.get("/v2/health/live").status == 200


def test_a_quick_answer_waits_for_the_slow_one_before_it(client: Client) -> None:
    ways = ["slow", "scaled", "slow", "scaled", "scaled"]
    client.send(b"".join(request(model=way) for way in ways))
    widths = [outputs(client.receive())["y"].shape[1] for _ in ways]
    assert widths == [3 if way == "slow" else 4 for way in ways]


def test_other_connections_do_not_wait_for_a_slow_one(server: Served, client: Client) -> None:
    before = server.statistics("slow")["inference_count"]
    client.send(request(model="slow") * 10)
    assert server.get("/v2/health/live").status == 200
    with server.connect() as other:
        assert np.array_equal(outputs(other.raw(request()))["y"], 2 * X)
    # Five batches take far longer than that took.
    assert server.statistics("slow")["inference_count"] < before + 10
    for _ in range(10):
        assert client.receive().status == 200


def test_errors_between_requests_keep_their_place(client: Client) -> None:
    client.send(request() + message("GET", "/nowhere") + infer("scaled", {"z": X}) + request())
    assert [client.receive().status for _ in range(4)] == [200, 404, 400, 200]


@pytest.mark.parametrize("kind", ["binary", "json"])
def test_a_request_may_be_split_at_every_byte(server: Served, kind: str) -> None:
    body = jsonned({"x": X})
    data = request() if kind == "binary" else message("POST", path_of("scaled"), body)
    with server.connect() as client:
        for at in range(1, len(data)):
            client.send(data[:at])
            # The answer to a request on another connection: the first part has been read by then.
            if at % 16 == 0:
                assert server.get("/v2/health/live").status == 200
            client.send(data[at:])
            assert np.array_equal(outputs(client.receive())["y"], 2 * X)


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    for byte in itertools.chain(request(), message("GET", "/v2")):
        client.send(bytes([byte]))
    assert client.receive().status == 200
    assert client.receive().document["name"] == "hasten"


def test_a_large_body_may_come_in_pieces_with_the_next_request_behind_it(client: Client) -> None:
    x = np.random.default_rng(0).normal(size=(3, 40_000)).astype(np.float32)
    data = infer("wide", {"x": x}) * 2 + request()
    for begin in range(0, len(data), 50_001):
        client.send(data[begin : begin + 50_001])
    for _ in range(2):
        assert np.array_equal(outputs(client.receive())["y"], 2 * x)
    assert client.receive().status == 200


def chunked(path: str, body: bytes, step: int, trailer: bytes = b"") -> bytes:
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    head = message("POST", path, Content_Length=None, Transfer_Encoding="chunked")
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + chunks + b"0\r\n" + trailer + b"\r\n"


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_body_may_come_in_chunks(client: Client, step: int) -> None:
    body = jsonned({"x": X})
    client.send(chunked(path_of("scaled"), body, step) * 2)
    for _ in range(2):
        assert np.array_equal(outputs(client.receive())["y"], 2 * X)


def test_trailers_are_read_and_ignored(client: Client) -> None:
    trailer = b"Checksum: abc\r\nContent-Encoding: gzip\r\n"
    client.send(chunked(path_of("scaled"), jsonned({"x": X}), 50, trailer) + request())
    assert [client.receive().status for _ in range(2)] == [200, 200]


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", "GZIP"])
def test_bodies_may_be_compressed(client: Client, encoding: str) -> None:
    pack = PACKERS[encoding.lower()]
    for body in (jsonned({"x": X}), jsonned({"x": X}, id="a")) * 2:
        answer = client.post(path_of("scaled"), pack(body), Content_Encoding=encoding)
        assert np.array_equal(outputs(answer)["y"], 2 * X)


def test_the_length_of_the_json_is_that_of_the_decompressed_body(client: Client) -> None:
    plain = request()
    head, _, body = plain.partition(b"\r\n\r\n")
    length = head.rpartition(b": ")[2].decode()
    answer = client.post(
        path_of("scaled"),
        gzip.compress(body),
        Content_Encoding="gzip",
        Inference_Header_Content_Length=length,
    )
    assert np.array_equal(outputs(answer)["y"], 2 * X)


def test_a_client_that_asks_to_close_is_closed(client: Client) -> None:
    answer = client.get("/v2", Connection="close")
    assert answer.headers["connection"] == "close"
    assert client.ended


def test_what_follows_a_request_that_closes_is_not_answered(client: Client) -> None:
    client.send(message("GET", "/v2", Connection="close") + request() * 3)
    assert client.receive().document["name"] == "hasten"
    assert client.ended


def test_a_slow_answer_to_a_request_that_closes_comes_whole(client: Client) -> None:
    slow = request(model="slow").replace(b"Host: test", b"Host: test\r\nConnection: close")
    client.send(slow + request())
    assert outputs(client.receive())["y"].shape == (1, 3)
    assert client.ended


def test_http_1_0_is_answered_and_closed(client: Client) -> None:
    answer = client.raw(b"GET /v2 HTTP/1.0\r\n\r\n")
    assert answer.document["name"] == "hasten"
    assert client.ended


def test_http_1_0_may_ask_to_stay(client: Client) -> None:
    ask = b"GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert client.raw(ask).status == 200
    assert client.raw(ask).status == 200


def test_a_large_body_in_http_1_0_is_answered_and_closed(client: Client) -> None:
    x = np.ones((1, 40_000), np.float32)
    client.send(infer("wide", {"x": x}).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert np.array_equal(outputs(client.receive())["y"], 2 * x)
    assert client.ended


def test_a_client_that_expects_it_is_told_to_continue(client: Client) -> None:
    head, _, body = request().partition(b"\r\n\r\n")
    first = client.raw(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert first.status == 100
    assert np.array_equal(outputs(client.raw(body))["y"], 2 * X)
    assert client.raw(request()).status == 200


def test_to_continue_is_told_after_the_answers_before_it(client: Client) -> None:
    head, _, body = request().partition(b"\r\n\r\n")
    client.send(request(model="slow") + head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert [client.receive().status for _ in range(2)] == [200, 100]
    assert client.raw(body).status == 200


def test_nobody_is_told_to_continue_with_a_body_that_is_too_long(client: Client) -> None:
    data = message("POST", path_of("scaled"), Content_Length=10**9, Expect="100-continue")
    assert client.raw(data).status == 413
    assert client.ended


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/metrics", "/nowhere"])
def test_head_is_answered_without_a_body(client: Client, path: str) -> None:
    client.send(message("HEAD", path))
    answer = client.receive(bodiless=True)
    assert int(answer.headers["content-length"]) >= 0
    assert client.get("/v2").document["name"] == "hasten"


def test_an_offer_to_upgrade_is_passed_over(client: Client) -> None:
    offer = message("GET", "/v2", Connection="Upgrade", Upgrade="h2c")
    client.send(offer * 3 + request())
    for _ in range(3):
        assert client.receive().document["name"] == "hasten"
    assert client.receive().status == 200


def test_empty_lines_before_a_request_are_passed_over(client: Client) -> None:
    for lines in (b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n"):
        assert client.raw(lines + message("GET", "/v2")).document["name"] == "hasten"
    # Had the empty lines been taken for a head, they would now be a request of their own.
    client.send(b"\r\n\r\n\r\n\r\n" + message("GET", "/v2/health/live"))
    assert client.receive().document == {"live": True}


def test_headers_are_known_in_any_case(client: Client) -> None:
    _, _, body = request().partition(b"\r\n\r\n")
    at = int(request().partition(b"\r\n\r\n")[0].rpartition(b": ")[2])
    head = (
        f"POST {path_of('scaled')} HTTP/1.1\r\nhOsT: a\r\nCONTENT-LENGTH:{len(body)}  \r\n"
        f"inference-header-CONTENT-length:\t{at}\r\n\r\n"
    ).encode()
    assert np.array_equal(outputs(client.raw(head + body))["y"], 2 * X)


def test_many_connections_are_answered_side_by_side(server: Served) -> None:
    def ask(at: int) -> None:
        with server.connect() as client:
            for step in range(20):
                factor = at * 20 + step
                y = outputs(client.raw(request(factor)))["y"]
                right.append(np.array_equal(y, 2 * factor * X))

    right: list[bool] = []
    threads = [threading.Thread(target=ask, args=(at,)) for at in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 640


def test_a_client_that_reads_late_gets_all_of_its_answers(client: Client, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(8, 40_000)).astype(np.float32)
    data = infer("wide", {"x": x}) * 12
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    for _ in range(12):
        assert np.array_equal(outputs(client.receive())["y"], 2 * x)
    sender.join()
