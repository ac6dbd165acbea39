"""What the client counts and times, against a server that errs on purpose."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hasten.errors import OptionError
from hasten.load_generator.arrivals import Constant, Poisson, Replay
from hasten.load_generator.client import Address, Client, Patience
from hasten.load_generator.record import Record
from null_server import null_server

REQUEST = b"POST /v2/models/null/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
SECOND = 1_000_000_000


@contextmanager
def client_of(
    url: str, *, timeout_s: float = 10, most: int = 64, keep_answers: bool = False, **patience: Any
) -> Iterator[Client]:
    address = Address("127.0.0.1", int(url.rpartition(":")[2]))
    limits = Patience(int(timeout_s * SECOND), **patience)
    with Client(
        address, [REQUEST], limits, most_connections=most, keep_answers=keep_answers
    ) as client:
        yield client


def closed(queries: int, concurrency: int = 4, timeout_s: float = 10, **faults: Any) -> Record:
    """Send so many and no more than are in flight beyond."""
    with null_server(canned=True, **faults) as url, client_of(url, timeout_s=timeout_s) as client:
        return client.closed(concurrency, 0, queries)


def opened(count: int, rate: float, timeout_s: float = 10, most: int = 64, **faults: Any) -> Record:
    with (
        null_server(canned=True, **faults) as url,
        client_of(url, timeout_s=timeout_s, most=most) as client,
    ):
        return client.open(Constant(rate), int(count / rate * SECOND))


def test_every_request_of_a_closed_loop_is_answered_and_counted() -> None:
    record = closed(500)

    assert record.issued == record.answered >= 500
    assert (record.missed, record.connections) == (0, 4)
    assert record.lag.count == 0


def test_an_open_loop_sends_as_many_as_arrive() -> None:
    record = opened(200, 1000)

    assert record.issued == record.answered == record.lag.count == 200
    assert record.missed == 0


def test_errors_are_misses_and_the_first_is_told() -> None:
    record = closed(500, error_every=5)

    assert record.misses["status 500"] == pytest.approx(record.issued / 5, abs=4)
    assert record.answered + record.missed == record.issued
    assert record.first_problem == 'status 500: {"error": "on purpose"}'


def test_refusals_are_counted_by_themselves() -> None:
    record = closed(800, refuse_above=100)

    assert set(record.misses) == {"refused (503)"}
    assert record.answered + record.missed == record.issued


@pytest.mark.parametrize("run", [closed, lambda count: opened(count, 2000)])
def test_connections_that_the_server_drops_are_opened_anew(run: Any) -> None:
    with null_server(canned=True, disconnect_every=10) as url, client_of(url) as client:
        record = (
            client.closed(4, 0, 60) if run is closed else client.open(Constant(1000), SECOND // 5)
        )

    assert record.misses["disconnected"] == pytest.approx(record.issued / 10, abs=5)
    assert record.answered + record.missed == record.issued


def test_a_percentile_that_falls_on_misses_has_no_figure() -> None:
    record = closed(500, error_every=5)

    assert record.percentile_ms(50) is not None
    assert record.percentile_ms(90) is None


def test_requests_that_are_never_answered_time_out() -> None:
    record = opened(20, 1000, timeout_s=0.3, silent=True)

    assert record.misses == {"timed out": 20}
    assert record.answered == 0


def test_arrivals_that_were_recorded_end_the_run() -> None:
    with null_server(canned=True) as url, client_of(url) as client:
        record = client.open(Replay((0, 1000, 50_000_000)), 60 * SECOND)

    assert record.issued == record.answered == 3
    assert record.elapsed_ns < 30 * SECOND


def test_a_run_that_cannot_be_saved_is_given_up() -> None:
    with (
        null_server(canned=True, delay_ms=300) as url,
        client_of(url, goal_ns=1_000_000, most_bad=5) as client,
    ):
        record = client.open(Poisson(200, 0), 60 * SECOND)

    assert record.gave_up
    assert record.elapsed_ns < 30 * SECOND


def test_nobody_who_listens_is_one_clear_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", unused.getsockname()[1])
        with pytest.raises(OptionError, match="Expected a server that listens, got Connection ref"):
            Client(address, [REQUEST], Patience(SECOND), most_connections=1)


def test_a_server_that_dies_meanwhile_costs_misses_not_the_run() -> None:
    with null_server(canned=True, stall_ms=1, stall_after=50) as url:
        client_context = client_of(url, timeout_s=1)
        client = client_context.__enter__()
        assert client.closed(2, 0, 20).missed == 0
    record = client.closed(2, SECOND // 5)
    client.close()

    assert record.answered == 0
    assert record.misses["disconnected"] > 0


@contextmanager
def canned(*pieces: bytes) -> Iterator[str]:
    """Answer every request with these pieces, each sent on its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while peer.recv(65536):
                    for piece in pieces:
                        peer.sendall(piece)
                        threading.Event().wait(0.002)
                    if b"close" in pieces[0]:
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\n", b"abcd"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            b"2\r\ncd\r\n0\r\n\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nabcd",),
    ],
)
def test_answers_in_any_framing_are_read_whole(pieces: tuple[bytes, ...]) -> None:
    with canned(*pieces) as url, client_of(url, keep_answers=True) as client:
        record = client.closed(1, 0, 5)

    assert record.missed == 0
    assert [(one.body, one.count) for one in record.answers] == [(b"abcd", record.answered)]


def test_what_is_no_http_is_a_miss() -> None:
    with canned(b"SSH-2.0-OpenSSH_9.2\r\n") as url, client_of(url) as client:
        record = client.closed(1, SECOND // 10)

    assert record.answered == 0
    assert set(record.misses) == {"not HTTP"}
