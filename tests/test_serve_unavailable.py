"""Models that cannot be served: named with their reason, while all others are served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import Done, finish, start
from inference_v2 import infer, outputs
from served import EXPLICIT, Served, serving
from served_models import entry, put_null, put_onnx, scaled

X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One good model, one that cannot be read, and one that cannot run."""
    put_onnx(tmp_path / "models" / "good.onnx", scaled())
    (tmp_path / "models" / "cut.onnx").write_bytes(b"nonsense")
    put_null(tmp_path / "models" / "broken", fail="run")
    return tmp_path / "models"


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[Served]:
    with serving(repository, *EXPLICIT, folder=tmp_path) as served:
        yield served


def index(server: Served) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in server.post("/v2/repository/index").document}


def answers(server: Served, model: str) -> bool:
    with server.connect() as client:
        answer = client.raw(infer(model, {"x": X}))
    return answer.status == 200 and np.array_equal(outputs(answer)["y"], 2 * X)


def test_others_are_served(server: Served) -> None:
    assert answers(server, "good")
    assert server.get("/v2/models/good/ready").status == 200
    for name in ("cut", "broken"):
        assert server.get(f"/v2/models/{name}/ready").status == 404


def test_the_index_names_them_with_the_reason(server: Served) -> None:
    found = index(server)
    assert {name: one["state"] for name, one in found.items()} == {
        "good": "READY",
        "cut": "UNAVAILABLE",
        "broken": "UNAVAILABLE",
    }
    assert "cut.onnx" in found["cut"]["reason"]
    assert "null could not run" in found["broken"]["reason"]


def test_a_line_on_stderr_names_each(server: Served) -> None:
    said = server.stop().err.splitlines()
    for name in ("cut", "broken"):
        (line,) = [one for one in said if one.startswith(f"hasten: {name} is not served: ")]
        assert len(line) > 40
    assert any(one.startswith("hasten: good 1, ") for one in said)


def test_the_server_is_live_and_not_ready_until_they_are_served_or_unloaded(
    server: Served, repository: Path
) -> None:
    assert server.get("/v2/health/live").status == 200
    assert "broken, cut" in server.get("/v2/health/ready").complaint
    put_onnx(repository / "cut.onnx", scaled())
    assert server.post("/v2/repository/models/cut/load").status == 200
    assert answers(server, "cut")
    answer = server.get("/v2/health/ready")
    assert (answer.status, answer.complaint.endswith(": broken")) == (503, True)
    assert server.post("/v2/repository/models/broken/unload").status == 200
    assert server.get("/v2/health/ready").status == 200
    assert index(server)["broken"]["reason"] == "unloaded"


def test_loading_one_again_says_what_is_still_wrong(server: Served) -> None:
    answer = server.post("/v2/repository/models/cut/load")
    assert answer.status == 400
    assert "cut.onnx" in answer.complaint
    assert server.post("/v2/repository/models/broken/load").status == 500
    assert server.post("/v2/repository/models/nothing/load").status == 404


def test_a_neighbour_that_broke_meanwhile_does_not_hinder_a_reload(
    server: Served, repository: Path
) -> None:
    entry(repository / "late", scaled(), "no_such_field: 1")
    assert server.post("/v2/repository/models/good/load").status == 200
    assert answers(server, "good")


def ended(*arguments: object, folder: Path) -> Done:
    return finish(start("serve", *arguments, "--http-port", 0, folder=folder))


@pytest.mark.parametrize("name", ["cut.onnx", "broken"])
def test_a_path_of_its_own_has_to_be_served(repository: Path, tmp_path: Path, name: str) -> None:
    complaint = ended(repository / "good.onnx", repository / name, folder=tmp_path).complaint
    assert ("cut.onnx" in complaint) or ("null could not run" in complaint)


def test_where_nothing_can_be_served_the_server_does_not_start(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "good.onnx").unlink()
    complaint = ended(repository, folder=tmp_path).complaint
    assert "Expected one model at least that can be served, got 2 that cannot" in complaint
    assert "cut.onnx" in complaint
