"""Models on disk and in the engine: what is read for a load, in which order, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import finish, start
from hasten.errors import HastenError
from hasten.serve.engine.engine import Engine
from hasten.serve.repository import Found, Place, Servable, find_models
from hasten.serve.repository.loader import Loader
from served import eventually, serving
from served_models import put_null, put_onnx, scaled

SLOW_NS = 500_000_000


def recording(folder: Path, opened: list[str]) -> Callable[[], Found]:
    """Find what is in a folder; ``opened`` gets the name of each model that is read."""

    def noted(place: Place) -> Place:
        def opener() -> Servable:
            opened.append(place.name)
            return place.opener()

        return replace(place, opener=opener)

    def find() -> Found:
        found = find_models(folder)
        return replace(found, places={name: noted(one) for name, one in found.places.items()})

    return find


def loaded(loader_work: Callable[[Engine], Awaitable[object]]) -> None:
    """Run this with an engine that is closed in the end."""

    async def run() -> None:
        engine = Engine()
        try:
            await loader_work(engine)
        finally:
            await engine.close()

    asyncio.run(run())


def test_a_load_reads_the_model_that_is_asked_for_and_no_other(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put_onnx(tmp_path / f"{name}.onnx", scaled())
    opened: list[str] = []

    async def work(engine: Engine) -> None:
        loader = Loader(engine, recording(tmp_path, opened))
        await loader.load_all()
        assert sorted(opened) == ["a", "b", "c"]
        opened.clear()
        await loader.load("b")
        assert opened == ["b"]

    loaded(work)


def test_loads_of_one_model_are_done_in_their_order(tmp_path: Path) -> None:
    put_onnx(tmp_path / "net.onnx", scaled(1.0))

    async def work(engine: Engine) -> None:
        loader = Loader(engine, lambda: find_models(tmp_path))
        await loader.load_all()
        before = engine.find("net").source.digest
        put_onnx(tmp_path / "net.onnx", scaled(2.0))
        await asyncio.gather(loader.load("net"), loader.unload("net"), loader.load("net"))
        assert engine.find("net").source.digest != before
        await asyncio.gather(loader.load("net"), loader.unload("net"))
        assert "net" not in engine
        assert loader.failed() == []

    loaded(work)


def test_a_model_that_cannot_be_served_harms_no_other_unless_it_is_to(tmp_path: Path) -> None:
    put_onnx(tmp_path / "good.onnx", scaled())
    (tmp_path / "cut.onnx").write_bytes(b"nonsense")
    told: list[str] = []

    async def work(engine: Engine) -> None:
        await Loader(engine, lambda: find_models(tmp_path), tell=told.append).load_all()
        assert [one.name for one in engine] == ["good"]

    async def strict(engine: Engine) -> None:
        find = lambda: find_models(tmp_path)  # noqa: E731
        with pytest.raises(HastenError, match=r"cut\.onnx"):
            await Loader(engine, find, exit_on_error=True, tell=told.append).load_all()

    loaded(work)
    assert sorted(line.split()[0] for line in told) == ["cut", "good"]
    told.clear()
    loaded(strict)
    assert told == []  # the one line that says why is the error itself


def test_why_a_model_is_not_served_names_no_folder_of_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    put_onnx(folder / "good.onnx", scaled())
    (folder / "cut.onnx").write_bytes(b"nonsense")
    (folder / "docs").mkdir()
    (folder / "far.onnx").symlink_to(tmp_path / "nowhere" / "far.onnx")

    async def work(engine: Engine) -> None:
        loader = Loader(engine, lambda: find_models(folder))
        await loader.load_all()
        reasons = loader.unloaded()
        assert set(reasons) == {"cut", "docs", "far"}
        assert "cut.onnx" in reasons["cut"][1]
        for state, reason in reasons.values():
            assert state == "UNAVAILABLE"
            assert str(tmp_path.parent) not in reason
            assert "my models" not in reason

    loaded(work)


def test_a_model_answers_before_another_is_loaded(tmp_path: Path) -> None:
    put_onnx(tmp_path / "models" / "fast.onnx", scaled())
    put_null(tmp_path / "models" / "slow", serving={"max_batch_size": 64}, cost_ns=SLOW_NS)
    put_onnx(tmp_path / "models" / "tail.onnx", scaled())
    with serving(tmp_path / "models", folder=tmp_path, ready=False) as server:

        def states() -> dict[str, str]:
            document = server.post("/v2/repository/index").document
            return {one["name"]: one["state"] for one in document}

        eventually(lambda: states() == {"fast": "READY", "slow": "LOADING", "tail": "READY"})
        assert server.get("/v2/health/live").status == 200
        assert server.get("/v2/health/ready").status == 503
        assert server.get("/v2/models/tail/ready").status == 200
        eventually(lambda: server.get("/v2/health/ready").status == 200)


def test_exit_on_error_ends_the_start_with_one_line(tmp_path: Path) -> None:
    put_onnx(tmp_path / "models" / "good.onnx", scaled())
    (tmp_path / "models" / "cut.onnx").write_bytes(b"nonsense")
    process = start("serve", "models", "--http-port", 0, "--exit-on-error", folder=tmp_path)
    assert "cut.onnx" in finish(process).complaint
