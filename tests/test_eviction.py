"""Which answers leave the cache: policies, and the sketch that counts how often each was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.serve.engine.cache import POLICIES
from hasten.serve.engine.eviction import EvictionPolicy, Lru
from hasten.serve.engine.frequency_sketch import FrequencySketch
from hasten.serve.engine.tiny_lfu import TinyLfu


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def hit_rate(policy: EvictionPolicy, trace: Sequence[int], size: Callable[[int], int]) -> float:
    """Share of requests that find their key in, where every miss is put in."""
    there: set[bytes] = set()
    hits = 0
    for number in trace:
        one = digest(number)
        policy.asked(one)
        if one in there:
            hits += 1
            continue
        there.add(one)
        there.difference_update(policy.insert(one, size(number)))
    return hits / len(trace)


def zipf_with_scans(seed: int) -> list[int]:
    """Zipf (0.9) over 5,000 keys; after every 500 requests 500 keys that never come again."""
    weights = 1 / np.arange(1, 5001) ** 0.9
    drawn = np.random.default_rng(seed).choice(5000, (40, 500), p=weights / weights.sum())
    scans = 1_000_000 + np.arange(40 * 500).reshape(40, 500)
    return [int(number) for number in np.concatenate([drawn, scans], axis=1).ravel()]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [lambda _: 100, lambda number: 50 + number * 37 % 200])
def test_frequent_keys_survive_scans_that_empty_lru(size: Callable[[int], int], seed: int) -> None:
    trace = zipf_with_scans(seed)
    capacity = 25_000
    assert hit_rate(TinyLfu(capacity), trace, size) > 1.3 * hit_rate(Lru(capacity), trace, size)


def test_what_was_frequent_once_makes_room_for_what_is_now() -> None:
    early, late = np.random.default_rng(0).integers(0, 80, (2, 20_000)).tolist()
    policy = TinyLfu(10_000)
    hit_rate(policy, early, lambda _: 100)
    assert hit_rate(policy, [1000 + number for number in late], lambda _: 100) > 0.8


@given(
    st.integers(0, 20_000),
    st.lists(
        st.tuples(st.sampled_from(["ask", "insert", "remove"]), st.integers(0, 40)), max_size=150
    ),
)
def test_every_policy_accounts_for_all_keys(capacity: int, steps: list[tuple[str, int]]) -> None:
    for make in POLICIES.values():
        policy = make(capacity)
        sizes: dict[bytes, int] = {}
        for step, number in steps:
            one, size = digest(number), 1 + number * number * 11
            if step == "ask":
                policy.asked(one)
            elif step == "insert" and one not in sizes:
                sizes[one] = size
                for gone in policy.insert(one, size):
                    del sizes[gone]
            elif step == "remove" and one in sizes:
                policy.remove(one)
                del sizes[one]
            assert policy.used_bytes == sum(sizes.values()) <= capacity


def test_a_sketch_counts_up_to_fifteen() -> None:
    sketch = FrequencySketch()
    for times in range(20):
        assert sketch.estimate(digest(1)) == min(times, 15)
        sketch.add(digest(1))


def test_a_sketch_forgets_by_halves() -> None:
    sketch = FrequencySketch(64)
    for _ in range(8):
        sketch.add(digest(1))
    for _ in range(10 * 64 - 8):
        sketch.add(digest(2))
    assert sketch.estimate(digest(1)) == 4
    assert sketch.estimate(digest(2)) == 7


@given(st.lists(st.integers(0, 300), max_size=300), st.integers(1, 2000))
def test_a_sketch_never_estimates_too_low_and_keeps_its_counts_when_it_grows(
    numbers: list[int], entries: int
) -> None:
    sketch = FrequencySketch()
    for number in numbers:
        sketch.add(digest(number))
    estimates = {number: sketch.estimate(digest(number)) for number in numbers}
    assert all(estimates[number] >= min(15, numbers.count(number)) for number in numbers)
    sketch.reserve(entries)
    assert {number: sketch.estimate(digest(number)) for number in numbers} == estimates
