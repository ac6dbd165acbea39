"""Engine and runtimes behind a real server: batches, executors, order and failures."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inference_v2 import infer, outputs
from served import Connect, Served, executions, serving, side_by_side
from served_models import failing, picking, put_bundle, put_null, rows, scaled

X = np.array([[1, 2, 3, 4]], np.float32)
MS = 1_000_000
FAILING = ("gather", "scatter", "guard", "divide", "modulo")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("engine")
    models = folder / "models"
    alone: dict[str, Any] = {"max_batch_size": 0}
    gathering: dict[str, Any] = {
        "max_batch_size": 8,
        "dynamic_batching": {
            "preferred_batch_size": [8],
            "max_queue_delay_microseconds": 50_000,
        },
    }
    eight: dict[str, Any] = {"max_batch_size": 8}
    for runtime in ("onnxruntime", "litert"):
        for inline in (True, False):
            serve = eight | {"inline": inline}
            put_bundle(models / f"{runtime}-{inline}", scaled(), runtime, serving=serve)
        put_bundle(models / f"{runtime}-two", scaled(), runtime, serving=eight, instances=2)
    for name, inline in (("picking", False), ("picking-inline", True)):
        put_bundle(models / name, picking(), serving=eight | {"inline": inline})
    for kind in FAILING:
        proto, _, _ = failing(kind)
        for inline in (True, False):
            put_bundle(models / f"{kind}-{inline}", proto, serving=gathering | {"inline": inline})
    put_null(models / "slow", serving={"max_batch_size": 8}, cost_ns=30 * MS)
    put_null(models / "one", serving=alone, cost_ns=60 * MS)
    put_null(models / "two", serving=alone, cost_ns=60 * MS, instances=2)
    ordered = {"preserve_ordering": True}
    put_null(
        models / "ordered",
        serving=alone | {"dynamic_batching": ordered},
        instances=2,
        cost_ns=10 * MS,
        jitter=0.9,
    )
    put_null(
        models / "gathers",
        serving={
            "max_batch_size": 4,
            "dynamic_batching": {"max_queue_delay_microseconds": 60_000_000},
        },
    )
    with serving(models, folder=folder) as served:
        yield served


WAYS = [f"{runtime}-{way}" for runtime in ("onnxruntime", "litert") for way in (True, False, "two")]


# Batches


@pytest.mark.parametrize("name", WAYS)
def test_every_number_of_rows_is_answered_with_its_own(server: Served, name: str) -> None:
    with server.connect() as client:
        for count in range(1, 9):
            x = rows(count, count)
            assert np.allclose(outputs(client.raw(infer(name, {"x": x})))["y"], 2 * x)


@pytest.mark.parametrize("name", WAYS)
def test_requests_side_by_side_get_their_own_rows(server: Served, name: str) -> None:
    inputs = [rows(1 + at % 3, at) for at in range(60)]
    answers = side_by_side(server, [infer(name, {"x": x}) for x in inputs])
    for x, answer in zip(inputs, answers, strict=True):
        assert np.allclose(outputs(answer)["y"], 2 * x)


def test_what_waits_while_the_executor_is_busy_is_one_batch(server: Served) -> None:
    before = executions(server, "slow")
    answers = side_by_side(server, [infer("slow", {"x": X})] * 9)
    assert {answer.status for answer in answers} == {200}
    # One that found the executor free, and the others; a second look at the sockets may split them.
    assert executions(server, "slow") - before <= 4


def test_a_batch_that_is_full_does_not_gather_any_longer(server: Served) -> None:
    before = executions(server, "gathers")
    answers = side_by_side(server, [infer("gathers", {"x": X})] * 4)
    assert {answer.status for answer in answers} == {200}
    assert executions(server, "gathers") - before == 1


# Executors


@pytest.mark.quiet
def test_two_executors_run_side_by_side(server: Served) -> None:
    def busy_ns(name: str) -> int:
        before = server.statistics(name)["inference_stats"]["queue"]["ns"]
        side_by_side(server, [infer(name, {"x": X})] * 4)
        after = server.statistics(name)["inference_stats"]["queue"]["ns"]
        return int(after - before)

    assert busy_ns("two") < 0.6 * busy_ns("one")


def test_answers_keep_their_order_where_executors_do_not(server: Served, connect: Connect) -> None:
    clients = [connect() for _ in range(12)]
    for client in clients:
        client.send(infer("ordered", {"x": X}))
        server.get("/v2/health/live")  # once it is answered, the request before it has arrived
    while clients:
        readable, _, _ = select.select([client.socket for client in clients], [], [])
        ready = clients[: 1 + max(clients.index(one) for one in clients if one.socket in readable)]
        # Whenever one is answered, all before it are: they need not be waited for.
        answered, _, _ = select.select([client.socket for client in ready], [], [], 0)
        assert len(answered) == len(ready)
        assert {client.receive().status for client in ready} == {200}
        clients = clients[len(ready) :]


@pytest.mark.parametrize("name", ["picking", "picking-inline"])
def test_an_input_that_cannot_be_run_is_400_and_the_model_lives_on(
    server: Served, name: str
) -> None:
    with server.connect() as client:
        for number in (0, 99, 2, -99, 1):
            answer = client.raw(infer(name, {"x": np.array([number], np.int64)}))
            if abs(number) > 3:
                assert answer.status == 400
                assert "onnxruntime could not run" in answer.complaint
            else:
                assert outputs(answer)["y"].tolist() == [10 * (number + 1)]


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("kind", FAILING)
def test_no_request_fails_for_another_of_its_batch(
    server: Served, kind: str, *, inline: bool
) -> None:
    name = f"{kind}-{inline}"
    _, good, bad = failing(kind)
    wanted = outputs(server.raw(infer(name, {"x": good})))["y"]
    before = server.counted("hasten_batch_reruns_total", name)
    for turn in range(4):
        inputs = [bad if at % 6 == turn else good for at in range(24)]
        answers = side_by_side(server, [infer(name, {"x": x}) for x in inputs])
        for x, answer in zip(inputs, answers, strict=True):
            assert answer.status == (400 if x is bad else 200), answer.body
            if x is good:
                assert np.array_equal(outputs(answer)["y"], wanted)
    assert server.counted("hasten_batch_reruns_total", name) > before
