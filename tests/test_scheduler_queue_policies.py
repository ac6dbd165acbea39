"""Queue policies: how many may wait, for how long, and what becomes of the others."""

from __future__ import annotations

import pytest

from hasten.errors import ExpiredError, OverloadedError
from scheduling import MS, admitted, made, scheduler, settings_of, taken


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


def test_settings_in_json_reach_the_scheduler() -> None:
    assert settings_of({"priority_levels": 2}).batching.priority_levels == 2
