"""Equal requests behind a real server with a cache: the model runs once for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from inference_v2 import infer, outputs
from served import Connect, Served, executions, serving, side_by_side
from served_models import picking, put_bundle, put_null, rows, scaled

MS = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("twins")
    models = folder / "models"
    alone = {"max_batch_size": 0, "response_cache": True}
    put_null(models / "cached", serving=alone, cost_ns=40 * MS)
    eight = {"max_batch_size": 8, "response_cache": True}
    put_bundle(models / "cached-rows", scaled(), serving=eight)
    put_bundle(models / "cached-picking", picking(), serving=eight)
    with serving(models, "--cache-mb", 10, folder=folder) as served:
        yield served


def fresh(seed: int) -> bytes:
    return infer("cached", {"x": rows(1, seed)})


def test_a_hundred_identical_requests_run_the_model_once(server: Served) -> None:
    before = server.statistics("cached")
    answers = side_by_side(server, [fresh(1)] * 100)
    assert {answer.body for answer in answers} == {answers[0].body}
    assert answers[0].status == 200
    after = server.statistics("cached")
    assert after["execution_count"] - before["execution_count"] == 1
    hits = [one["inference_stats"]["cache_hit"]["count"] for one in (before, after)]
    assert hits[1] - hits[0] == 99


def test_twins_are_answered_though_the_first_of_them_vanishes(
    server: Served, connect: Connect
) -> None:
    before = executions(server, "cached")
    busy, leader = connect(), connect()
    busy.send(fresh(2))  # occupies the executor, so that the leader waits
    server.get("/v2/health/live")
    leader.send(fresh(3))
    server.get("/v2/health/live")
    twins = [connect() for _ in range(3)]
    for twin in twins:
        twin.send(fresh(3))
    server.get("/v2/health/live")
    leader.socket.close()
    twins[1].socket.close()
    assert busy.receive().status == 200
    assert twins[0].receive().status == 200
    assert twins[2].receive().status == 200
    assert executions(server, "cached") - before == 2


def test_twins_are_answered_though_the_first_vanishes_while_it_runs(
    server: Served, connect: Connect
) -> None:
    before = executions(server, "cached")
    leader, twin = connect(), connect()
    leader.send(fresh(4))
    server.get("/v2/health/live")
    twin.send(fresh(4))
    server.get("/v2/health/live")
    leader.socket.close()
    assert twin.receive().status == 200
    assert executions(server, "cached") - before == 1


def test_a_failure_is_told_to_all_twins_and_not_kept(server: Served) -> None:
    request = infer("cached-picking", {"x": np.array([99], np.int64)})
    for _ in range(2):
        answers = side_by_side(server, [request] * 5)
        assert {answer.status for answer in answers} == {400}


def test_answers_from_the_cache_are_those_of_the_same_rows(server: Served) -> None:
    for _ in range(3):
        inputs = [rows(1 + at % 3, at % 5) for at in range(30)]
        answers = side_by_side(server, [infer("cached-rows", {"x": x}) for x in inputs])
        for x, answer in zip(inputs, answers, strict=True):
            assert np.array_equal(outputs(answer)["y"], 2 * x)
