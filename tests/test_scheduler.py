"""Which requests run next, and together, at times that the test names."""

from __future__ import annotations

import pytest

from hasten.errors import HastenError
from hasten.serve.engine.request import NEVER_NS
from hasten.serve.engine.scheduler import Scheduler
from hasten.serve.engine.suspects import Apart
from scheduling import MS, admitted, finish, made, scheduler, taken

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


def test_rows_of_one_request_stay_together() -> None:
    one = scheduler()
    requests = admitted(one, made(rows=5), made(rows=3), made(rows=4), made(rows=4), made(rows=1))
    assert [taken(one), taken(one), taken(one)] == [requests[:2], requests[2:4], requests[4:]]


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


# The gather delay

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


def test_a_full_batch_does_not_wait_for_a_request_of_another_shape() -> None:
    one = scheduler(DELAY)
    (lone,) = admitted(one, made(0, key="lone"))
    full = admitted(one, *(made(1, key="full") for _ in range(8)))
    assert taken(one, 1) == full
    assert taken(one, 1) == []
    assert one.wake_ns == MS
    assert taken(one, MS) == [lone]


def test_each_shape_gathers_for_its_own_delay() -> None:
    one = scheduler(DELAY)
    first, second = admitted(one, made(0, key="a"), made(MS // 2, key="b"))
    assert taken(one, MS) == [first]
    assert taken(one, MS) == []
    assert one.wake_ns == MS + MS // 2
    assert taken(one, one.wake_ns) == [second]


def test_a_shape_that_is_always_full_lets_a_lone_request_run_after_its_delay() -> None:
    one = scheduler(DELAY)
    (lone,) = admitted(one, made(0, key="lone"))
    for now in range(1, MS, MS // 8):
        admitted(one, *(made(now, key="full") for _ in range(16)))
        assert lone not in taken(one, now)
    assert taken(one, MS) == [lone]


def test_the_delay_is_of_the_first_that_came_though_others_are_before_it() -> None:
    one = scheduler(DELAY | {"priority_levels": 2, "default_priority_level": 2})
    old, new = admitted(one, made(0, priority=2), made(MS - 1, priority=1))
    assert taken(one, MS) == [new, old]


def test_a_cap_below_the_preferred_sizes_is_a_full_batch() -> None:
    one = scheduler(DELAY | {"preferred_batch_size": [8]}, sizes=(1, 2, 4))
    requests = admitted(one, *(made() for _ in range(4)))
    assert taken(one) == requests


@pytest.mark.parametrize("action", ["REJECT", "DELAY"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_request_above_the_cap_is_no_measure_for_those_behind_it(
    action: str, *, cancelled: bool
) -> None:
    policy = {"default_timeout_microseconds": 1000, "timeout_action": action}
    one = scheduler({"default_queue_policy": policy})
    (large,) = admitted(one, made(0, rows=9))
    small = admitted(one, *(made(MS, rows=3) for _ in range(3)))
    if cancelled:
        one.cancel(large)
    assert taken(one, MS) == small[:2]


# Suspects


def failing(one: Scheduler, now_ns: int, end_ns: int) -> None:
    """Run what is next, which is a suspect's and fails."""
    batch = one.take(now_ns)
    assert batch is not None
    assert isinstance(batch.requests[0].key, Apart)
    batch.error = HastenError("bad")
    finish(one, batch, end_ns)


def test_suspects_run_one_by_one_in_their_turn() -> None:
    one = scheduler()
    requests = [made(at, key=Apart("a") if at % 2 else "a", rows=1 + at) for at in range(4)]
    admitted(one, *requests)
    assert [taken(one) for _ in range(3)] == [requests[0::2], requests[1:2], requests[3:]]


def test_a_suspect_does_not_gather() -> None:
    one = scheduler(DELAY)
    assert admitted(one, made(key=Apart("a"))) == taken(one)


def test_failing_runs_take_a_twentieth_of_the_time_while_others_ask() -> None:
    one, failed_ns, now = scheduler(sizes=(1,)), 0, 0
    admitted(one, *(made(key=Apart("a")) for _ in range(200)))
    for _ in range(200):
        admitted(one, made(now, key="a"))
        batch = one.take(now)
        assert batch is not None
        now += MS
        if isinstance(batch.requests[0].key, Apart):
            batch.error = HastenError("bad")
            failed_ns += MS
        finish(one, batch, now)
    assert now / 22 < failed_ns < now / 18


def test_where_nobody_else_asks_suspects_are_not_held_back() -> None:
    one = scheduler()
    for at in range(5):
        admitted(one, made(at * MS, key=Apart("a")))
        failing(one, at * MS, (at + 1) * MS)


def test_suspects_are_let_go_once_others_are_done() -> None:
    one = scheduler()
    admitted(one, made(key=Apart("a")))
    failing(one, 0, MS)
    (other,) = admitted(one, made(key="a"))
    assert taken(one, MS) == [other]
    (suspect,) = admitted(one, made(key=Apart("a")))
    assert taken(one, 2 * MS) == []
    assert one.wake_ns == 20 * MS
    assert taken(one, one.wake_ns) == [suspect]


def test_suspects_who_are_answered_are_not_held_back() -> None:
    one = scheduler()
    for at in range(5):
        suspect, other = admitted(one, made(key=Apart("a")), made(key="a"))
        for wanted in (suspect, other):
            batch = one.take(at * MS)
            assert batch is not None
            assert batch.requests == [wanted]
            finish(one, batch, (at + 1) * MS)


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
