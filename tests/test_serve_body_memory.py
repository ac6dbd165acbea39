"""Bodies of all connections share one budget: who comes when it is spent is told to come again."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from command_line import hasten
from inference_v2 import binary, infer, outputs, path_of
from served import Client, Served, eventually, message, serving
from served_models import put_null, put_onnx, scaled

BODY_MB = 1.0
BUDGET_MB = 2.0
SMALL = np.array([[1, 2, 3, 4]], np.float32)
#: A body of 0.8 MB: two of them fit, a third does not.
LARGE = np.ones((1, 200_000), np.float32)
PATH = path_of("wide")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("memory")
    models = folder / "models"
    put_onnx(models / "small.onnx", scaled())
    put_onnx(models / "wide.onnx", scaled(2.0, ("n", 200_000)))
    put_null(models / "slow", serving={"max_batch_size": 0}, cost_ns=300_000_000)
    flags = ("--body-mb", BODY_MB, "--body-memory-mb", BUDGET_MB, "--transfer-timeout", "20s")
    with serving(models, *flags, folder=folder) as served:
        yield served


def request() -> bytes:
    return infer("wide", {"x": LARGE})


@pytest.fixture
def held(server: Served) -> Iterator[list[Client]]:
    """Two requests that lack their last byte, and so hold nearly all of the budget."""
    assert figure(server, "body_bytes") == 0
    with ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in range(2)]
        for client in clients:
            client.send(request()[:-1])
        eventually(lambda: figure(server, "body_bytes") > 1_600_000)
        yield clients
    eventually(lambda: figure(server, "body_bytes") == 0)


def figure(server: Served, name: str) -> float:
    lines = server.get("/metrics").body.decode().splitlines()
    return next(float(one.split()[1]) for one in lines if one.startswith(f"hasten_{name} "))


def refused(client: Client, data: bytes) -> None:
    answer = client.raw(data)
    assert answer.status == 503, answer
    assert answer.headers["retry-after"] == "1"
    assert "room for the body" in answer.complaint


def good(client: Client) -> None:
    assert np.array_equal(outputs(client.raw(infer("small", {"x": SMALL})))["y"], 2 * SMALL)


def chunked(body: bytes, length: int) -> bytes:
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    head = message(
        "POST",
        PATH,
        Content_Length=None,
        Transfer_Encoding="chunked",
        Inference_Header_Content_Length=length,
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


def test_who_comes_when_the_budget_is_spent_comes_again_on_the_same_connection(
    server: Served, held: list[Client]
) -> None:
    with server.connect() as late:
        for _ in range(2):  # the head is known the second time
            refused(late, request())
        good(late)
        held[0].send(request()[-1:])
        assert np.array_equal(outputs(held[0].receive())["y"], 2 * LARGE)
        assert np.array_equal(outputs(late.raw(request()))["y"], 2 * LARGE)


def test_requests_that_were_begun_are_answered_whatever_comes_later(
    server: Served, held: list[Client]
) -> None:
    with server.connect() as late:
        refused(late, request())
    for client in held:
        client.send(request()[-1:])
        assert np.array_equal(outputs(client.receive())["y"], 2 * LARGE)


def test_a_body_in_chunks_counts_as_it_comes(server: Served, held: list[Client]) -> None:
    body, length = binary({"x": LARGE})
    with server.connect() as late:
        refused(late, chunked(body, length))
        good(late)
        held[0].send(request()[-1:])
        held[0].receive()
        assert late.raw(chunked(body, length)).status == 200


def test_a_body_that_is_long_only_once_decompressed_counts_as_long(
    server: Served, held: list[Client]
) -> None:
    body, length = binary({"x": LARGE})
    packed = gzip.compress(body, 1, mtime=0)
    headers = {"Content_Encoding": "gzip", "Inference_Header_Content_Length": length}
    data = message("POST", PATH, packed, **headers)
    assert len(packed) < 10_000
    with server.connect() as late:
        refused(late, data)
        held[0].send(request()[-1:])
        held[0].receive()
        assert late.raw(data).status == 200


def test_who_asks_before_sending_a_body_is_told_at_once(server: Served, held: list[Client]) -> None:
    head, _, _ = message("POST", PATH, request(), Expect="100-continue").partition(b"\r\n\r\n")
    with server.connect() as late:
        refused(late, head + b"\r\n\r\n")
        assert late.ended


def test_refusals_are_counted(server: Served, held: list[Client]) -> None:
    before = figure(server, "bodies_refused_total")
    with server.connect() as late:
        refused(late, request())
    assert figure(server, "bodies_refused_total") == before + 1


@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_vanishes_holds_nothing(server: Served, *, whole: bool) -> None:
    wide = infer("slow", {"x": np.ones((10_000, 4), np.float32)}) * 3
    with server.connect() as client:
        client.send(wide if whole else wide[:-1])
        eventually(lambda: figure(server, "body_bytes") > 300_000)
    eventually(lambda: figure(server, "body_bytes") == 0)


def test_answered_requests_hold_nothing(server: Served) -> None:
    with server.connect() as client:
        client.send(request() * 2)
        for _ in range(2):
            assert client.receive().status == 200
        client.send(message("POST", PATH, bytes(5000)) + b"nonsense\r\n\r\n")
        assert [client.receive().status for _ in range(2)] == [400, 400]
        assert client.ended
    assert figure(server, "body_bytes") == 0


def test_a_budget_that_is_less_than_one_body_is_refused(tmp_path: Path) -> None:
    net = put_onnx(tmp_path / "net.onnx", scaled())
    said = hasten("serve", net, "--body-mb", 3, "--body-memory-mb", 2).complaint
    assert "which is --body-mb 3, got 2 - at --body-memory-mb" in said
