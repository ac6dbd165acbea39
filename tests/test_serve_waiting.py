"""Bounds on waiting behind a real server: timeouts, full queues, latency goals, priorities."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inference_v2 import infer, jsonned, path_of
from served import Client, Connect, Served, message, serving, side_by_side
from served_models import put_null

X = np.array([[1, 2, 3, 4]], np.float32)
MS = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("waiting")
    models = folder / "models"
    alone: dict[str, Any] = {"max_batch_size": 0}
    bounded = {"default_queue_policy": {"default_timeout_microseconds": 20_000}}
    put_null(models / "bounded", serving=alone | {"dynamic_batching": bounded}, cost_ns=60 * MS)
    full = {"default_queue_policy": {"max_queue_size": 2}}
    put_null(models / "full", serving=alone | {"dynamic_batching": full}, cost_ns=60 * MS)
    put_null(models / "goal", serving=alone | {"latency_goal_ms": 20}, cost_ns=15 * MS)
    put_null(
        models / "levels",
        serving=alone | {"dynamic_batching": {"priority_levels": 2, "default_priority_level": 2}},
        cost_ns=80 * MS,
    )
    with serving(models, folder=folder) as served:
        yield served


def test_one_that_waited_too_long_is_503(server: Served) -> None:
    answers = side_by_side(server, [infer("bounded", {"x": X})] * 3)
    assert sorted(answer.status for answer in answers) == [200, 503, 503]
    late = next(answer for answer in answers if answer.status == 503)
    assert "longer than its timeout" in late.complaint


def test_a_full_queue_is_503_with_when_to_try_again(server: Served) -> None:
    answers = side_by_side(server, [infer("full", {"x": X})] * 8)
    refused = [answer for answer in answers if answer.status == 503]
    assert 4 <= len(refused) <= 6
    for answer in refused:
        assert "maximum queue size of 2" in answer.complaint
        assert int(answer.headers["retry-after"]) >= 1


def test_once_the_queue_stands_what_cannot_meet_the_goal_is_503(
    server: Served, connect: Connect
) -> None:
    crowd = [connect() for _ in range(60)]  # 900 ms of work
    for client in crowd:
        client.send(infer("goal", {"x": X}))
    answered = [client.receive() for client in crowd[:30]]  # 450 ms later: twenty goals are over
    assert {answer.status for answer in answered} == {200}
    refused = server.post(path_of("goal"), jsonned({"x": X}))
    assert refused.status == 503
    assert "latency goal" in refused.complaint
    assert int(refused.headers["retry-after"]) >= 1
    assert 503 in {client.receive().status for client in crowd[30:]}


def with_priority(level: int) -> bytes:
    body = jsonned({"x": X}, parameters={"priority": level})
    return message("POST", path_of("levels"), body)


def test_a_higher_priority_overtakes(server: Served, connect: Connect) -> None:
    running, *waiting, urgent = (connect() for _ in range(5))
    running.send(with_priority(2))
    server.get("/v2/health/live")
    for client in waiting:
        client.send(with_priority(2))
    urgent.send(with_priority(1))
    assert urgent.receive().status == 200
    readable, _, _ = select.select([client.socket for client in waiting], [], [], 0)
    assert readable == []
    for client in waiting:
        assert client.receive().status == 200


def test_a_priority_that_there_is_not_is_refused(client: Client) -> None:
    answer = client.raw(with_priority(3))
    assert answer.status == 400
    assert "priority from 1 to 2, got 3" in answer.complaint
