"""Fixtures that several test files share: a folder and files for commands, and connections.

Connections lead to the server of a test file, which is its own fixture ``server``.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from nets import saved_data, saved_net
from served import Client, Connect, Served

# Every run of the tests tries the same examples, so that it fails for a change and for nothing
# else; ``HYPOTHESIS_PROFILE=fuzz`` looks for new ones, which are then kept as examples.
settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no finding
)
settings.register_profile("fuzz", max_examples=5000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier on disk."""
    return saved_net(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples that it labels rightly."""
    return saved_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, and see that no temporary file stays."""
    stray, work = tmp_path / "tmp", tmp_path / "work"
    stray.mkdir()
    work.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(stray))
    monkeypatch.chdir(work)
    yield work
    assert list(stray.iterdir()) == []


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with server.connect() as connected:
        yield connected


@pytest.fixture
def connect(server: Served) -> Iterator[Connect]:
    """Open connections that end with the test."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(server.connect())
