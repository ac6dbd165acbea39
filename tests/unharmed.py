"""Whatever one connection does, a server that has the model ``scaled`` answers all others.

A test file says which of the fixtures is its ``client``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from inference_v2 import infer, outputs
from served import Client, Served

__all__ = ["good", "lasting_client", "unharmed_client"]

X = np.array([[1, 2, 3, 4]], np.float32)


def good(client: Client) -> None:
    """See that this connection is answered."""
    assert np.array_equal(outputs(client.raw(infer("scaled", {"x": X})))["y"], 2 * X)


@contextmanager
def unharmed(server: Served) -> Iterator[Client]:
    """Lend a connection, and see that others are answered: one from before, and a new one."""
    with server.connect() as other:
        good(other)
        with server.connect() as connected:
            yield connected
        good(other)
    with server.connect() as new:
        good(new)


@pytest.fixture
def unharmed_client(server: Served) -> Iterator[Client]:
    """A connection that may be ended; all others must go on."""
    with unharmed(server) as connected:
        yield connected


@pytest.fixture
def lasting_client(server: Served) -> Iterator[Client]:
    """A connection that must be as good as new after the test, like any other."""
    with unharmed(server) as connected:
        yield connected
        good(connected)
