"""Engine and runtimes behind a real server: executors, order, failures, the cache, lengths."""

from __future__ import annotations

import contextlib
import json
import select
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference_v2 import infer, jsonned, outputs, path_of
from onnx_models import model, value
from served import Answer, Client, Served, message, serving
from served_models import put_bundle, put_null, scaled

X = np.array([[1, 2, 3, 4]], np.float32)
MS = 1_000_000


def picking() -> onnx.ModelProto:
    """x[n] to the x-th of three numbers; it fails where there is none."""
    numbers = numpy_helper.from_array(np.array([10, 20, 30], np.float32), "numbers")
    node = helper.make_node("Gather", ["numbers", "x"], ["y"])
    return model([node], [value("x", ["n"], TensorProto.INT64)], [value("y", ["n"])], [numbers])


def masked_mean() -> onnx.ModelProto:
    """x[n,length] and mask to doubled[n,length], and mean[n] over what the mask has."""
    nodes = [
        helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "x"], ["doubled"]),
        helper.make_node("Mul", ["x", "m"], ["real"]),
        helper.make_node("ReduceSum", ["real", "axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["m", "axis"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
    ]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    inputs = [value("x", ["n", "length"]), value("mask", ["n", "length"], TensorProto.INT64)]
    outputs_of = [value("doubled", ["n", "length"]), value("mean", ["n"])]
    return model(nodes, inputs, outputs_of, [axis])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("engine")
    models = folder / "models"
    alone: dict[str, Any] = {"max_batch_size": 0}
    eight: dict[str, Any] = {"max_batch_size": 8}
    for runtime in ("onnxruntime", "litert"):
        for inline in (True, False):
            serve = eight | {"inline": inline}
            put_bundle(models / f"{runtime}-{inline}", scaled(), runtime, serving=serve)
        put_bundle(models / f"{runtime}-two", scaled(), runtime, serving=eight, instances=2)
    for name, inline in (("picking", False), ("picking-inline", True)):
        put_bundle(models / name, picking(), serving=eight | {"inline": inline})
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
    put_null(
        models / "gathers",
        serving={
            "max_batch_size": 4,
            "dynamic_batching": {"max_queue_delay_microseconds": 60_000_000},
        },
    )
    put_null(models / "cached", serving=alone | {"response_cache": True}, cost_ns=40 * MS)
    put_bundle(models / "cached-rows", scaled(), serving=eight | {"response_cache": True})
    put_bundle(models / "cached-picking", picking(), serving=eight | {"response_cache": True})
    put_bundle(
        models / "lengths",
        masked_mean(),
        serving=eight
        | {"inline": False, "length_buckets": {"lengths": [4, 16], "mask": "mask", "pad_value": 7}},
    )
    with serving(models, "--cache-mb", 10, folder=folder) as served:
        yield served


Connect = Callable[[], Client]


@pytest.fixture
def connect(server: Served) -> Iterator[Connect]:
    """Open connections that end with the test."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(server.connect())


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with server.connect() as connected:
        yield connected


def executions(server: Served, name: str) -> int:
    count: int = server.statistics(name)["execution_count"]
    return count


def side_by_side(server: Served, requests: Sequence[bytes]) -> list[Answer]:
    """Send each on a connection of its own, all before any answer is read."""
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.send(request)
        return [client.receive() for client in clients]


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


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
def test_a_batch_that_fails_is_500_and_the_model_lives_on(server: Served, name: str) -> None:
    with server.connect() as client:
        for number in (0, 99, 2, -99, 1):
            answer = client.raw(infer(name, {"x": np.array([number], np.int64)}))
            if abs(number) > 3:
                assert answer.status == 500
                assert "onnxruntime could not run" in answer.complaint
            else:
                assert outputs(answer)["y"].tolist() == [10 * (number + 1)]


# Bounds on waiting


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


# The cache


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
        assert {answer.status for answer in answers} == {500}


def test_answers_from_the_cache_are_those_of_the_same_rows(server: Served) -> None:
    for _ in range(3):
        inputs = [rows(1 + at % 3, at % 5) for at in range(30)]
        answers = side_by_side(server, [infer("cached-rows", {"x": x}) for x in inputs])
        for x, answer in zip(inputs, answers, strict=True):
            assert np.array_equal(outputs(answer)["y"], 2 * x)


# Lengths


def sequence(length: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(length).normal(size=(count, length)).astype(np.float32)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 15, 16])
@pytest.mark.parametrize("count", [1, 3])
def test_a_sequence_is_answered_at_its_own_length(client: Client, length: int, count: int) -> None:
    x = sequence(length, count)
    found = outputs(client.raw(infer("lengths", {"x": x})))
    assert np.array_equal(found["doubled"], 2 * x)
    assert np.allclose(found["mean"], x.mean(axis=1), atol=1e-6)


def test_a_mask_is_made_for_each_of_many_requests_in_json(client: Client) -> None:
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(1, 3)).astype(np.float32)
        found = outputs(client.post(path_of("lengths"), jsonned({"x": x})))
        assert np.allclose(found["mean"], x.mean(axis=1), atol=1e-6)


def test_a_mask_of_the_client_is_padded_with_zeros(client: Client) -> None:
    x = sequence(3)
    mask = np.array([[1, 0, 1]], np.int64)
    found = outputs(client.raw(infer("lengths", {"mask": mask, "x": x})))
    assert np.allclose(found["mean"], (x[:, 0] + x[:, 2]) / 2)
    body = jsonned({"x": x, "mask": mask})
    assert np.allclose(outputs(client.post(path_of("lengths"), body))["mean"], found["mean"])


def test_sequences_of_one_bucket_share_batches(server: Served) -> None:
    before = executions(server, "lengths")
    inputs = [sequence(1 + at % 4) for at in range(40)]
    answers = side_by_side(server, [infer("lengths", {"x": x}) for x in inputs])
    for x, answer in zip(inputs, answers, strict=True):
        assert np.array_equal(outputs(answer)["doubled"], 2 * x)
    assert executions(server, "lengths") - before <= 40


def test_a_sequence_longer_than_the_last_bucket_is_refused(client: Client) -> None:
    answer = client.raw(infer("lengths", {"x": sequence(17)}))
    assert answer.status == 400
    assert "at most 16, got 17" in answer.complaint


def test_a_mask_of_another_length_is_refused(client: Client) -> None:
    mask = np.ones((1, 2), np.int64)
    answer = client.raw(infer("lengths", {"x": sequence(3), "mask": mask}))
    assert answer.status == 400
    assert "one length of x, mask, got 2, 3" in answer.complaint


def test_an_input_that_is_no_mask_may_not_be_left_out(client: Client) -> None:
    answer = client.raw(infer("lengths", {"mask": np.ones((1, 2), np.int64)}))
    assert answer.status == 400
    assert "x is missing" in answer.complaint


def test_lengths_without_a_mask_are_refused_at_the_start(tmp_path: Path) -> None:
    settings = {"length_buckets": {"lengths": [4], "mask": "mask"}}
    put_bundle(tmp_path / "net", scaled(), serving={"max_batch_size": 8})
    (tmp_path / "c.json").write_text(json.dumps(settings))
    with (
        pytest.raises(AssertionError, match="mask 'mask'"),
        serving("net", "--config", "c.json", folder=tmp_path),
    ):
        pass
