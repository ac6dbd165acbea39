"""Connections to the server of a test file, which is its fixture ``server``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from served import Client, Connect, Served


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with server.connect() as connected:
        yield connected


@pytest.fixture
def connect(server: Served) -> Iterator[Connect]:
    """Open connections that end with the test."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(server.connect())
