"""Whether caching pays: what hashing costs beside computing."""

from __future__ import annotations

import pytest

from hasten.serve.engine.cache_worth import CacheWorth


def measured(worth: CacheWorth, hash_ns: int, compute_ns: int, times: int = 64) -> None:
    for _ in range(times):
        worth.hashed(hash_ns)
        worth.computed(compute_ns)


def test_caching_pays_until_enough_is_known() -> None:
    worth = CacheWorth()
    assert worth.pays()
    measured(worth, 1000, 1000, times=15)
    assert worth.pays()
    measured(worth, 1000, 1000, times=1)
    assert not worth.pays()


@pytest.mark.parametrize(("hash_ns", "pays"), [(40, True), (50, True), (51, False), (900, False)])
def test_hashing_may_cost_a_twentieth_of_computing(hash_ns: int, *, pays: bool) -> None:
    worth = CacheWorth()
    measured(worth, hash_ns, 1000)
    assert worth.pays() == pays
    assert (worth.hash_ns, worth.compute_ns) == (hash_ns, 1000)


def test_one_request_in_256_is_hashed_to_ask_again() -> None:
    worth = CacheWorth()
    measured(worth, 500, 1000)
    assert sum(worth.pays() for _ in range(2560)) == 10


def test_caching_comes_back_when_computing_gets_slow() -> None:
    worth = CacheWorth()
    measured(worth, 500, 1000)
    assert not worth.pays()
    measured(worth, 500, 100_000)
    assert all(worth.pays() for _ in range(1000))
