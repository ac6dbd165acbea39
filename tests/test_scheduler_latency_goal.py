"""The latency goal: batches that it allows, and requests refused once the queue stands."""

from __future__ import annotations

from typing import Any

import pytest

from hasten.errors import OverloadedError
from hasten.serve.engine.request import Request
from hasten.serve.engine.scheduler import Scheduler
from scheduling import MS, admitted, keep_up, made, scheduler, taken


def test_a_goal_caps_the_batch_so_that_waiting_and_running_fit() -> None:
    words = {"fixed_ns": 1.0 * MS, "row_ns": 1.0 * MS, "sizes": (1, 2, 4, 8)}
    assert scheduler(**words).cap == 8  # type: ignore[arg-type]
    assert scheduler(**words, latency_goal_ms=10.0).cap == 4  # type: ignore[arg-type]
    assert scheduler(**words, latency_goal_ms=0.1).cap == 1  # type: ignore[arg-type]


def overloaded(**settings: Any) -> Scheduler:
    """A scheduler of batches of 4 ms whose queue has stood: every request was late for 200 ms."""
    one = scheduler(sizes=(1,), fixed_ns=4.0 * MS, latency_goal_ms=10.0, **settings)
    late = admitted(one, *(made() for _ in range(8)))
    with pytest.raises(OverloadedError):
        one.admit(made(200 * MS), 200 * MS)
    for request in late:
        one.cancel(request)
    return one


def at(now: int, count: int = 1) -> list[Request]:
    return [made(now) for _ in range(count)]


def test_a_burst_is_answered_late_rather_than_refused() -> None:
    one = scheduler(sizes=(1,), fixed_ns=4.0 * MS, latency_goal_ms=10.0)
    requests = admitted(one, *at(0, count=8))
    assert [taken(one, now * 4 * MS) for now in range(8)] == [[request] for request in requests]
    assert one.dropped == []


def test_once_the_queue_stands_what_cannot_be_answered_in_time_is_refused_at_arrival() -> None:
    now = 200 * MS
    one = overloaded()
    admitted(one, *at(now, count=2))
    with pytest.raises(OverloadedError, match=r"latency goal of 10 ms: 2 requests wait") as caught:
        one.admit(made(now), now)
    assert caught.value.retry_after_s == pytest.approx(0.002)
    assert one.waiting == 2


def test_more_executors_admit_more() -> None:
    now = 200 * MS
    one = overloaded(executors=2)
    admitted(one, *at(now, count=4))
    with pytest.raises(OverloadedError):
        one.admit(made(now), now)


def test_a_batch_that_runs_counts_with_what_is_left_of_it() -> None:
    now = 200 * MS
    one = overloaded()
    admitted(one, *at(now, count=2))
    assert len(taken(one, now)) == 1
    with pytest.raises(OverloadedError):
        one.admit(made(now), now)
    one.admit(made(now + 3 * MS), now + 3 * MS)


def test_once_the_queue_stands_what_would_miss_its_goal_is_dropped_before_it_is_run() -> None:
    now = 200 * MS
    one = overloaded()
    late, fresh = admitted(one, made(now - 6 * MS), made(now))
    assert taken(one, now + MS) == [fresh]
    ((request, error),) = one.dropped
    assert request is late
    assert "latency goal" in str(error)


def test_a_while_without_a_late_request_ends_the_refusing() -> None:
    one = overloaded()
    admitted(one, *at(450 * MS, count=8))
    assert one.waiting == 8


def test_a_model_that_was_too_slow_once_is_tried_again() -> None:
    one = scheduler(sizes=(1,), fixed_ns=50.0 * MS, latency_goal_ms=10.0)
    keep_up(one, 100)
    assert one.times.expect(1) < 2 * MS


def test_nothing_is_refused_while_there_is_time() -> None:
    one = scheduler(sizes=(1,), fixed_ns=1.0 * MS, latency_goal_ms=3.0)
    keep_up(one, 100)
    assert one.dropped == []
