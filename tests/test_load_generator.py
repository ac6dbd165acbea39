"""The process that generates load: it works, fails and dies without taking the caller along."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from hasten.errors import OptionError, RuntimeFailureError
from hasten.load_generator.arrivals import Constant
from hasten.load_generator.client import Address
from hasten.load_generator.generator import Generator
from hasten.load_generator.protocol import Closed, Open
from hasten.load_generator.service import serving
from null_server import null_server
from test_load_client import REQUEST, SECOND


def address_of(url: str) -> Address:
    return Address("127.0.0.1", int(url.rpartition(":")[2]))


def test_one_process_loads_several_servers_and_tells_how_far_it_is() -> None:
    told: list[float] = []
    with null_server(canned=True) as one, null_server(canned=True) as two, Generator() as generator:
        first, second = (
            generator.aim(address_of(url), [REQUEST], timeout_s=5, most_connections=8)
            for url in (one, two)
        )
        closed = generator.fire(first, Closed(2, 0, queries=50))
        opened = generator.fire(second, Open(Constant(100), SECOND // 2), advance=told.append)

    assert closed.answered >= 50
    assert opened.answered == 50
    assert told == sorted(told)
    assert len(told) > 3


def test_a_server_that_nobody_runs_is_a_failure_in_one_line() -> None:
    with socket.socket() as unused, Generator() as generator:
        unused.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", unused.getsockname()[1])
        with pytest.raises(RuntimeFailureError, match="Expected a server that listens"):
            generator.aim(address, [REQUEST], timeout_s=1, most_connections=1)


def test_a_process_that_is_killed_is_a_failure_that_says_so() -> None:
    with null_server(canned=True) as url, Generator() as generator:
        number = generator.aim(address_of(url), [REQUEST], timeout_s=5, most_connections=8)
        os.kill(generator.pid, signal.SIGKILL)
        with pytest.raises(RuntimeFailureError, match="process died: SIGKILL"):
            generator.fire(number, Closed(1, SECOND))


def test_what_is_neither_a_url_nor_a_path_is_refused() -> None:
    with (
        pytest.raises(OptionError, match=r"Expected a URL such as .*, or a bundle"),
        serving("absent.hasten", 1),
    ):
        pass


def test_a_path_that_cannot_be_served_is_a_failure_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "no.hasten").mkdir()
    with (
        pytest.raises(RuntimeFailureError, match=r"serving .*no.hasten: it did not get ready"),
        serving(str(tmp_path / "no.hasten"), 1),
    ):
        pass
