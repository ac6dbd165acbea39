"""Which requests run next, and together, at times that the test names."""

from __future__ import annotations

from typing import Any

import pytest

from hasten.errors import ExpiredError, OverloadedError
from hasten.serve.engine.request import NEVER_NS, Request
from hasten.serve.engine.scheduler import Scheduler
from scheduling import MS, finish, made, scheduler, settings_of, times_of


def admitted(one: Scheduler, *requests: Request) -> list[Request]:
    for request in requests:
        one.admit(request, request.arrival_ns)
    return list(requests)


def taken(one: Scheduler, now_ns: int = 0) -> list[Request]:
    batch = one.take(now_ns)
    return batch.requests if batch else []


# Batch while busy


def test_one_that_waits_is_run_at_once_and_alone() -> None:
    one = scheduler()
    request = made()
    admitted(one, request)
    batch = one.take(5)
    assert batch is not None
    assert (batch.requests, batch.rows, batch.size, batch.begin_ns) == ([request], 1, 1, 5)


def test_nothing_is_run_where_nothing_waits() -> None:
    assert scheduler().take(0) is None


def test_what_came_while_a_batch_ran_is_the_next_batch() -> None:
    one = scheduler()
    admitted(one, made())
    first = one.take(0)
    later = admitted(one, *(made(at) for at in range(1, 6)))
    assert first is not None
    finish(one, first, MS)
    assert taken(one, MS) == later


def test_no_batch_is_larger_than_the_largest_size() -> None:
    one = scheduler()
    requests = admitted(one, *(made(at) for at in range(11)))
    assert [taken(one), taken(one), taken(one)] == [requests[:8], requests[8:], []]


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (7, 8), (8, 8)])
def test_a_batch_is_padded_to_the_next_size(rows: int, size: int) -> None:
    one = scheduler()
    admitted(one, *(made() for _ in range(rows)))
    batch = one.take(0)
    assert batch is not None
    assert (batch.rows, batch.size) == (rows, size)


def test_rows_of_one_request_stay_together() -> None:
    one = scheduler()
    requests = admitted(one, made(rows=5), made(rows=3), made(rows=4), made(rows=4), made(rows=1))
    assert [taken(one), taken(one), taken(one)] == [requests[:2], requests[2:4], requests[4:]]


def test_a_request_larger_than_every_size_is_run_as_it_is() -> None:
    one = scheduler()
    request = made(rows=50)
    admitted(one, request, made())
    batch = one.take(0)
    assert batch is not None
    assert (batch.requests, batch.size) == ([request], 50)


def test_a_full_smaller_batch_goes_before_padding_that_costs_more_than_it_gives() -> None:
    # Time is by the row alone: five rows padded to eight would take as long as eight.
    one = scheduler(fixed_ns=0.0, row_ns=MS)
    one.review()
    requests = admitted(one, *(made(at) for at in range(5)))
    assert all(len(taken(one)) in {1, 2, 4} for _ in requests[:2])


def test_padding_goes_before_a_second_batch_where_rows_cost_nothing() -> None:
    one = scheduler(fixed_ns=MS, row_ns=0.0)
    admitted(one, *(made() for _ in range(5)))
    batch = one.take(0)
    assert batch is not None
    assert batch.rows == 5


def test_batches_are_as_large_as_is_worth_it() -> None:
    assert scheduler(fixed_ns=0.0, row_ns=MS).cap == 1
    assert scheduler(fixed_ns=MS, row_ns=0.0).cap == 8


# Order


def test_requests_without_deadlines_go_in_their_order() -> None:
    one = scheduler(sizes=(1,))
    requests = admitted(one, *(made(at) for at in range(5)))
    assert [taken(one)[0] for _ in requests] == requests


def test_the_earliest_deadline_is_first() -> None:
    one = scheduler(sizes=(1,), latency_goal_ms=1000.0)
    requests = admitted(one, *(made(at * MS) for at in (50, 10, 40, 20, 30)))
    ranked = sorted(requests, key=lambda request: request.deadline_ns)
    assert [taken(one, 50 * MS)[0] for _ in requests] == ranked


def test_a_priority_goes_before_every_deadline() -> None:
    one = scheduler({"priority_levels": 3, "default_priority_level": 2}, sizes=(1,))
    last = made(priority=3, deadline=1 * MS)
    first = made(5, priority=1)
    middle = made(3, priority=2)
    admitted(one, last, first, middle)
    assert [taken(one)[0] for _ in range(3)] == [first, middle, last]


def test_requests_of_unlike_shapes_never_share_a_batch() -> None:
    one = scheduler()
    requests = admitted(one, *(made(at, key=at % 3) for at in range(9)))
    batches = [taken(one) for _ in range(3)]
    assert batches == [requests[0::3], requests[1::3], requests[2::3]]
    assert taken(one) == []


def test_the_oldest_decides_which_shape_is_next() -> None:
    one = scheduler()
    late, early = made(2, key="many"), made(1, key="one")
    admitted(one, early, *(made(2, key="many") for _ in range(5)), late)
    assert taken(one) == [early]


# Preferred sizes and the gather delay


def test_a_preferred_size_is_taken_before_a_larger_batch() -> None:
    one = scheduler({"preferred_batch_size": [2, 4]})
    admitted(one, *(made() for _ in range(7)))
    assert [len(taken(one)) for _ in range(3)] == [4, 2, 1]


DELAY = {"max_queue_delay_microseconds": 1000}


def test_a_delay_gathers_until_it_ends() -> None:
    one = scheduler(DELAY)
    requests = admitted(one, made(0), made(MS // 2))
    assert taken(one, 0) == []
    assert one.wake_ns == MS
    assert taken(one, MS - 1) == []
    assert taken(one, MS) == requests
    assert one.wake_ns == NEVER_NS


def test_a_delay_ends_with_a_full_batch() -> None:
    one = scheduler(DELAY)
    admitted(one, *(made() for _ in range(7)))
    assert taken(one) == []
    admitted(one, made())
    assert len(taken(one)) == 8


def test_a_delay_ends_with_the_smallest_preferred_size() -> None:
    one = scheduler(DELAY | {"preferred_batch_size": [6, 3]})
    admitted(one, made(), made())
    assert taken(one) == []
    admitted(one, made())
    assert len(taken(one)) == 3


# Queue policies


def policy(**words: object) -> dict[str, object]:
    return {"default_queue_policy": words}


def test_a_full_queue_refuses() -> None:
    one = scheduler(policy(max_queue_size=2))
    admitted(one, made(), made())
    with pytest.raises(OverloadedError, match="maximum queue size of 2") as caught:
        one.admit(made(), 0)
    assert caught.value.retry_after_s > 0
    taken(one)
    admitted(one, made())


def test_cancelled_requests_make_room() -> None:
    one = scheduler(policy(max_queue_size=1))
    (request,) = admitted(one, made())
    one.cancel(request)
    admitted(one, made())


def test_priorities_have_queues_of_their_own() -> None:
    batching = {
        "priority_levels": 2,
        "default_priority_level": 1,
        "default_queue_policy": {"max_queue_size": 1},
        "priority_queue_policy": {"2": {"max_queue_size": 2}},
    }
    one = scheduler(batching)
    admitted(one, made(priority=1), made(priority=2), made(priority=2))
    for full in (1, 2):
        with pytest.raises(OverloadedError):
            one.admit(made(priority=full), 0)


def test_one_that_waited_too_long_is_refused_where_the_policy_rejects() -> None:
    one = scheduler(policy(default_timeout_microseconds=1000))
    late, fresh = admitted(one, made(0), made(MS))
    assert taken(one, MS) == [fresh]
    ((request, error),) = one.dropped
    assert request is late
    assert isinstance(error, ExpiredError)
    assert "1.0 ms" in str(error)


def test_one_that_waited_too_long_is_last_where_the_policy_delays() -> None:
    one = scheduler(policy(default_timeout_microseconds=1000, timeout_action="DELAY"), sizes=(1,))
    late, fresh = admitted(one, made(0), made(MS))
    assert [taken(one, MS), taken(one, 50 * MS), taken(one, 50 * MS)] == [[fresh], [late], []]
    assert one.dropped == []


def test_a_timeout_of_its_own_may_be_shorter_than_the_default_and_not_longer() -> None:
    words = {"default_timeout_microseconds": 1000, "allow_timeout_override": True}
    one = scheduler(policy(**words))
    short, long = made(), made()
    one.admit(short, 0, timeout_us=500)
    one.admit(long, 0, timeout_us=5000)
    assert (short.queue_limit_ns, long.queue_limit_ns) == (MS // 2, MS)


def test_a_timeout_of_its_own_means_nothing_where_the_policy_does_not_allow_it() -> None:
    one = scheduler()
    request = made()
    one.admit(request, 0, timeout_us=1)
    assert taken(one, 10**12) == [request]
    assert not one.bounded


def test_expiry_looks_at_the_whole_queue() -> None:
    one = scheduler(policy(default_timeout_microseconds=1000, allow_timeout_override=True))
    first, last = made(), made()
    one.admit(first, 0)
    one.admit(last, 0, timeout_us=10)
    one.expire(MS // 2)
    assert [request for request, _ in one.dropped] == [last]
    assert one.waiting == 1
    assert taken(one, MS // 2) == [first]


# The latency goal


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
    now = 0
    for _ in range(100):
        admitted(one, made(now))
        batch = one.take(now)
        assert batch is not None
        now += MS
        finish(one, batch, now)
    assert one.times.expect(1) < 2 * MS


def test_nothing_is_refused_while_there_is_time() -> None:
    one = scheduler(sizes=(1,), fixed_ns=1.0 * MS, latency_goal_ms=3.0)
    now = 0
    for _ in range(100):
        admitted(one, made(now))
        batch = one.take(now)
        assert batch is not None
        now += MS
        finish(one, batch, now)
    assert one.dropped == []


# Cancellation


def test_a_cancelled_request_is_not_run() -> None:
    one = scheduler()
    first, second = admitted(one, made(), made())
    one.cancel(first)
    assert one.waiting == 1
    assert taken(one) == [second]


def test_cancelling_twice_counts_once() -> None:
    one = scheduler()
    first, _ = admitted(one, made(), made())
    one.cancel(first)
    one.cancel(first)
    assert one.waiting == 1


def test_cancelling_what_runs_leaves_the_queue_alone() -> None:
    one = scheduler(sizes=(1,))
    first, second = admitted(one, made(), made())
    assert taken(one) == [first]
    one.cancel(first)
    assert one.waiting == 1
    assert taken(one) == [second]


def test_settings_in_json_reach_the_scheduler() -> None:
    assert settings_of({"priority_levels": 2}).batching.priority_levels == 2


def test_what_the_warm_up_timed_badly_is_tried_soon() -> None:
    times = times_of(0.0, 1.0 * MS, (1, 2))
    times.observe(8, 80.0 * MS)  # a stall, ten times as long as it takes
    one = Scheduler(settings_of(), (1, 2, 8), times=times)
    assert one.cap < 8
    now = 0
    for _ in range(64):
        admitted(one, made(now))
        batch = one.take(now)
        assert batch is not None
        now += MS
        finish(one, batch, now)
    assert one.cap == 8


def test_a_size_that_looked_bad_once_is_tried_afresh() -> None:
    batcher = Scheduler(settings_of(), (1, 2, 3, 4))
    for size in (1, 2, 3, 4):
        batcher.times.observe(size, 100.0 if size < 3 else 1000.0)
    batcher.review()
    assert batcher.cap == 2
    batcher.review(afresh=True)
    assert batcher.cap == 4
    for _ in range(100):
        batcher.times.observe(3, 100.0)
        batcher.times.observe(4, 100.0)
    batcher.review()
    assert batcher.cap == 4
