"""Pools that wait: their size from the share of the time that is waiting."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hasten.doctor import (
    size_io_pool,
)
from hasten.doctor.io_pool import measured, pool_size
from hasten.errors import DataError, OptionError


def test_the_rule_is_that_of_the_book() -> None:
    assert pool_size(cores=8, utilization=1.0, ratio=0.0) == 8
    assert pool_size(cores=8, utilization=0.5, ratio=9.0) == 40
    assert pool_size(cores=1, utilization=0.1, ratio=0.0) == 1


def test_waiting_is_what_is_left_of_the_clock_without_computing() -> None:
    wall, processor = iter([0, 100, 100, 200]), iter([0, 20, 20, 50])
    assert measured([int, int], lambda: next(wall), lambda: next(processor)) == (200, 50)


def test_a_pool_that_waits_nine_parts_of_ten_has_ten_threads_a_core(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    wall, processor = iter([0, 10_000_000]), iter([0, 1_000_000])
    found = size_io_pool(
        str(tmp_path / "a.bin"),
        cores=2,
        wall_ns=lambda: next(wall),
        processor_ns=lambda: next(processor),
    )
    assert (found.wait_ms, found.compute_ms, found.ratio, found.size) == (9.0, 1.0, 9.0, 20)
    assert str(found) == "2 x 1 x (1 + 9.000 ms / 1.000 ms) = 20 threads"


def test_images_are_read_and_decoded(tmp_path: Path) -> None:
    for at in range(3):
        pixels = np.full((16, 16, 3), at, np.uint8)
        (tmp_path / "class").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "class" / f"{at}.png")
    found = size_io_pool(str(tmp_path), cores=2)
    assert (found.does, found.tasks) == ("read from disk and decode", 3)
    assert found.compute_ms > 0
    assert found.size >= 2


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/"
        listening.shutdown()
        thread.join()


def test_a_url_is_fetched(server: str) -> None:
    found = size_io_pool(server, cores=1)
    assert (found.does, found.tasks) == (f"fetch {server}", 16)


def test_a_url_that_does_not_answer_is_refused(server: str) -> None:
    with pytest.raises(DataError, match="404"):
        size_io_pool(f"{server}nothing", cores=1)


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_source_without_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="Expected files or an"):
        size_io_pool(str(tmp_path / name), cores=1)


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"Expected an image.*a\.png"):
        size_io_pool(str(tmp_path), cores=1)


@pytest.mark.parametrize("utilization", [0.0, -1.0, 1.1])
def test_a_utilization_that_is_none_is_refused(tmp_path: Path, utilization: float) -> None:
    with pytest.raises(OptionError, match="--utilization"):
        size_io_pool(str(tmp_path), cores=1, utilization=utilization)
