"""The status page of a real ``hasten serve``, in a real browser, while requests come."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from browser import Page, open_page
from inference_v2 import infer
from served import EXPLICIT, Served, serving
from served_models import put_null, put_onnx, scaled

X = np.array([[1, 2, 3, 4]], np.float32)
SECONDS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    put_onnx(folder / "models" / "busy.onnx", scaled())
    put_null(folder / "models" / "idle")
    with serving(folder / "models", *EXPLICIT, "--cache-mb", 1, folder=folder) as served:
        yield served


def watched(server: Served) -> Page:
    """Open the page while a client asks."""
    ended = threading.Event()

    def ask() -> None:
        with server.connect() as client:
            while not ended.wait(0.001):
                assert client.raw(infer("busy", {"x": X})).status == 200

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        return open_page(f"http://{server.url}/", SECONDS)
    finally:
        ended.set()
        thread.join()


def test_it_shows_the_models_that_are_served_and_what_they_do(server: Served) -> None:
    page = watched(server)

    assert page.named("headline").words == "Serving 2 models"
    assert [each.words for each in page.all("name")] == ["busy version 1", "idle version 1"]
    figures = page.named("figures").words
    rate = re.search(r"answered ([\d,.]+) /s", figures)
    assert rate is not None, figures
    assert float(rate.group(1).replace(",", "")) > 0
    assert re.search(r"p99 [\d,.]+ (µs|ms)", figures), figures
    assert "of 1.00 MB held" in figures
    assert "NaN" not in figures
    assert "hidden" in page.named("alarm").attributes


def test_a_model_that_is_unloaded_is_not_on_the_page(server: Served, tmp_path: Path) -> None:
    assert server.post("/v2/repository/models/idle/unload").status == 200
    try:
        names = [each.words for each in open_page(f"http://{server.url}/", SECONDS).all("name")]
    finally:
        assert server.post("/v2/repository/models/idle/load").status == 200
    assert names == ["busy version 1"]
