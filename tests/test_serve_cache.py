"""The response cache: hits, single flight, budget and expiry."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.serve.engine.cache import POLICIES, Hit, Leads, ResponseCache, Waits
from hasten.serve.engine.eviction import PolicyName

POLICY_NAMES: list[PolicyName] = list(POLICIES)


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def answer(count: int = 4) -> list[np.ndarray]:
    return [np.arange(count, dtype=np.float32)]


def filled(cache: ResponseCache[str], key: bytes, arrays: Sequence[np.ndarray]) -> None:
    assert isinstance(cache.begin(key, "leader"), Leads)
    cache.finish(key, arrays, 1000)


# Hits, and single flight


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_an_answer_is_computed_once_and_then_there(policy: PolicyName) -> None:
    cache: ResponseCache[str] = ResponseCache(1 << 20, policy=policy)
    filled(cache, digest(1), answer())
    found = cache.begin(digest(1), "b")
    assert isinstance(found, Hit)
    np.testing.assert_array_equal(found.arrays[0], answer()[0])
    assert found.saved_ns == 1000
    assert (cache.statistics.hits, cache.statistics.misses) == (1, 1)
    assert cache.statistics.saved_ns == 1000


def test_what_is_kept_does_not_change_with_the_buffer_it_came_from() -> None:
    cache: ResponseCache[str] = ResponseCache(1 << 20)
    buffer = answer()[0]
    filled(cache, digest(1), [buffer])
    buffer[:] = 7
    found = cache.begin(digest(1), "b")
    assert isinstance(found, Hit)
    np.testing.assert_array_equal(found.arrays[0], answer()[0])
    with pytest.raises(ValueError, match="read-only"):
        found.arrays[0][0] = 1


def test_twins_wait_for_the_one_that_computes() -> None:
    cache: ResponseCache[str] = ResponseCache(1 << 20)
    assert isinstance(cache.begin(digest(1), "a"), Leads)
    assert isinstance(cache.begin(digest(1), "b"), Waits)
    assert isinstance(cache.begin(digest(1), "c"), Waits)
    assert isinstance(cache.begin(digest(2), "d"), Leads)
    done = cache.finish(digest(1), answer(), 500)
    assert done.waiters == ("b", "c")
    np.testing.assert_array_equal(done.arrays[0], answer()[0])
    assert cache.statistics.coalesced == 2
    assert cache.statistics.saved_ns == 1000


def test_a_failure_reaches_all_twins_and_is_not_kept() -> None:
    cache: ResponseCache[str] = ResponseCache(1 << 20)
    for one in "abc":
        cache.begin(digest(1), one)
    assert cache.fail(digest(1)) == ("b", "c")
    assert cache.statistics.entries == 0
    assert isinstance(cache.begin(digest(1), "d"), Leads)


def test_an_answer_without_room_still_reaches_the_twins() -> None:
    cache: ResponseCache[str] = ResponseCache(0)
    cache.begin(digest(1), "a")
    cache.begin(digest(1), "b")
    assert cache.finish(digest(1), answer(), 1).waiters == ("b",)
    assert (cache.statistics.refused, cache.statistics.entries) == (1, 0)
    assert isinstance(cache.begin(digest(1), "c"), Leads)


#: Waiters are told apart by identity.
A, B, C, D = object(), object(), object(), object()


def test_where_the_leader_leaves_the_first_twin_leads() -> None:
    cache: ResponseCache[object] = ResponseCache(1 << 20)
    for one in (A, B, C):
        cache.begin(digest(1), one)
    assert cache.leave(digest(1), A) == B
    assert isinstance(cache.begin(digest(1), D), Waits)
    assert cache.finish(digest(1), answer(), 1).waiters == (C, D)


def test_a_leader_without_twins_leaves_nothing_behind() -> None:
    cache: ResponseCache[object] = ResponseCache(1 << 20)
    cache.begin(digest(1), A)
    assert cache.leave(digest(1), A) is None
    assert isinstance(cache.begin(digest(1), B), Leads)


def test_a_twin_that_leaves_is_not_called() -> None:
    cache: ResponseCache[object] = ResponseCache(1 << 20)
    for one in (A, B, C):
        cache.begin(digest(1), one)
    assert cache.leave(digest(1), B) is None
    assert cache.finish(digest(1), answer(), 1).waiters == (C,)


def test_leaving_what_is_over_does_nothing() -> None:
    cache: ResponseCache[str] = ResponseCache(1 << 20)
    filled(cache, digest(1), answer())
    assert cache.leave(digest(1), "leader") is None
    assert cache.fail(digest(1)) == ()
    assert isinstance(cache.begin(digest(1), "b"), Hit)


@pytest.mark.parametrize("policy", POLICY_NAMES)
@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "finish", "fail", "leave"]), st.integers(0, 2)),
        max_size=60,
    )
)
def test_at_all_times_one_request_computes_and_none_is_lost(
    policy: PolicyName, steps: list[tuple[str, int]]
) -> None:
    cache: ResponseCache[list[int]] = ResponseCache(1 << 16, policy=policy)
    leader: dict[int, list[int]] = {}
    waiting: dict[int, list[list[int]]] = {0: [], 1: [], 2: []}
    for at, (step, number) in enumerate(steps):
        name = digest(number)
        if step == "begin":
            me = [at]
            found = cache.begin(name, me)
            if isinstance(found, Leads):
                assert number not in leader
                leader[number] = me
            elif isinstance(found, Waits):
                assert number in leader
                waiting[number].append(me)
            else:
                assert number not in leader
        elif number in leader:
            if step == "leave":
                promoted = cache.leave(name, leader.pop(number))
                assert (promoted is None) == (not waiting[number])
                if promoted is not None:
                    assert promoted is waiting[number].pop(0)
                    leader[number] = promoted
                continue
            called = cache.fail(name) if step == "fail" else cache.finish(name, answer(), 1).waiters
            assert list(called) == waiting[number]
            waiting[number] = []
            del leader[number]


# Budget


@pytest.mark.parametrize("policy", POLICY_NAMES)
@given(
    st.integers(0, 60_000),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3000)), max_size=120),
)
def test_the_budget_is_never_exceeded(
    policy: PolicyName, capacity: int, requests: list[tuple[int, int]]
) -> None:
    cache: ResponseCache[str] = ResponseCache(capacity, policy=policy)
    for number, size in requests:
        if isinstance(cache.begin(digest(number), "a"), Leads):
            cache.finish(digest(number), [np.zeros(size, np.uint8)], 1)
        seen = cache.statistics
        assert 0 <= seen.used_bytes <= capacity
        assert seen.entries == seen.insertions - seen.evicted - seen.expired
    assert entries_that_can_be_had(cache) == cache.statistics.entries


def entries_that_can_be_had(cache: ResponseCache[str]) -> int:
    return sum(isinstance(cache.begin(digest(number), "z"), Hit) for number in range(31))


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_bytes_are_counted_as_they_are_taken(policy: PolicyName) -> None:
    cache: ResponseCache[str] = ResponseCache(1 << 30, policy=policy)
    arrays = answer(16)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(3000):
        filled(cache, digest(number), arrays)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.75 * taken <= cache.statistics.used_bytes <= 1.5 * taken


def test_texts_count_with_what_they_hold() -> None:
    cache: ResponseCache[str] = ResponseCache(1 << 20)
    filled(cache, digest(1), [np.array([b"x" * 10_000], object)])
    assert cache.statistics.used_bytes > 10_000


def test_the_one_asked_for_longest_ago_leaves() -> None:
    cache: ResponseCache[str] = ResponseCache(30_000)
    for number in range(3):
        filled(cache, digest(number), [np.zeros(9000, np.uint8)])
    assert isinstance(cache.begin(digest(0), "a"), Hit)
    filled(cache, digest(3), [np.zeros(9000, np.uint8)])
    assert [isinstance(cache.begin(digest(n), "a"), Hit) for n in (0, 1, 2, 3)] == [
        True,
        False,
        True,
        True,
    ]
    assert cache.statistics.evicted == 1


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_clearing_drops_every_answer_and_no_flight(policy: PolicyName) -> None:
    cache: ResponseCache[str] = ResponseCache(1 << 20, policy=policy)
    filled(cache, digest(1), answer())
    cache.begin(digest(2), "a")
    cache.clear()
    assert (cache.statistics.entries, cache.statistics.used_bytes) == (0, 0)
    assert isinstance(cache.begin(digest(1), "b"), Leads)
    assert isinstance(cache.begin(digest(2), "b"), Waits)


# Expiry


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_an_answer_expires(policy: PolicyName) -> None:
    clock = Clock()
    cache: ResponseCache[str] = ResponseCache(1 << 20, policy=policy, ttl_ns=100, now_ns=clock)
    filled(cache, digest(1), answer())
    clock.ns = 99
    assert isinstance(cache.begin(digest(1), "a"), Hit)
    clock.ns = 100
    assert isinstance(cache.begin(digest(1), "a"), Leads)
    assert (cache.statistics.expired, cache.statistics.used_bytes) == (1, 0)


def test_asking_does_not_prolong_an_answer_but_computing_does() -> None:
    clock = Clock()
    cache: ResponseCache[str] = ResponseCache(1 << 20, ttl_ns=100, now_ns=clock)
    filled(cache, digest(1), answer())
    filled(cache, digest(2), answer())
    clock.ns = 60
    cache.begin(digest(1), "a")
    cache.finish(digest(2), answer(), 1)
    clock.ns = 120
    assert isinstance(cache.begin(digest(1), "a"), Leads)
    assert isinstance(cache.begin(digest(2), "a"), Hit)


def test_what_has_expired_frees_its_bytes_when_another_is_asked_for() -> None:
    clock = Clock()
    cache: ResponseCache[str] = ResponseCache(1 << 20, ttl_ns=10, now_ns=clock)
    for number in range(50):
        clock.ns += 1
        filled(cache, digest(number), answer())
    assert cache.statistics.entries == 10
    clock.ns += 100
    cache.begin(digest(1000), "a")
    assert cache.statistics.used_bytes == 0
