"""The response cache: keys, single flight, budget, expiry, policies, and whether it pays."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from hasten.serve.engine.cache import POLICIES, Hit, Leads, ResponseCache, Waits
from hasten.serve.engine.cache_key import KeyScope, fastest_hash
from hasten.serve.engine.cache_worth import CacheWorth
from hasten.serve.engine.eviction import EvictionPolicy, Lru, PolicyName
from hasten.serve.engine.frequency_sketch import FrequencySketch
from hasten.serve.engine.tiny_lfu import TinyLfu

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


# Keys

SCOPE = KeyScope("net", 1, "abc", "onnxruntime")
X = np.arange(12, dtype=np.float32)


def key(outputs: Sequence[str] = ("y",), /, **inputs: np.ndarray) -> bytes:
    return SCOPE.key(inputs, outputs)


def test_a_key_has_256_bits_and_is_the_same_for_the_same_request() -> None:
    assert len(key(x=X)) == 32
    assert key(x=X) == key(x=X.copy())


def test_the_order_of_inputs_is_of_no_consequence() -> None:
    assert SCOPE.key({"a": X, "b": X + 1}, ["y"]) == SCOPE.key({"b": X + 1, "a": X}, ["y"])


def test_a_view_has_the_key_of_its_copy() -> None:
    view = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    assert key(x=view) == key(x=view.copy())


@pytest.mark.parametrize(
    "other",
    [
        {"x": X.reshape(3, 4)},
        {"x": X.reshape(4, 3)},
        {"x": X.reshape(1, 12)},
        {"x": X.view(np.int32)},
        {"x": X.view(np.uint8)},
        {"x": X.astype(">f4")},
        {"z": X},
        {"x": X[:6], "y": X[6:]},
        {},
    ],
)
def test_the_same_bytes_as_another_tensor_have_another_key(other: dict[str, np.ndarray]) -> None:
    assert key(x=X) != key(**other)


def test_types_of_one_width_that_numpy_does_not_know_have_other_keys() -> None:
    raw = np.arange(8, dtype=np.uint16)
    kinds = [np.float16, ml_dtypes.bfloat16, np.uint16, np.int16]
    assert len({key(x=raw.view(kind)) for kind in kinds}) == len(kinds)


def test_outputs_asked_for_are_part_of_the_key() -> None:
    asked: list[tuple[str, ...]] = [(), ("y",), ("y", "z"), ("z", "y"), ("yz",)]
    assert len({key(outputs, x=X) for outputs in asked}) == len(asked)


@pytest.mark.parametrize(
    "scope",
    [
        KeyScope("net2", 1, "abc", "onnxruntime"),
        KeyScope("net", 2, "abc", "onnxruntime"),
        KeyScope("net", 1, "abd", "onnxruntime"),
        KeyScope("net", 1, "abc", "openvino"),
        KeyScope("net", 11, "bc", "onnxruntime"),
    ],
)
def test_another_model_version_artifact_or_runtime_has_another_key(scope: KeyScope) -> None:
    assert scope.key({"x": X}, ["y"]) != key(x=X)


def objects(*values: object) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def test_texts_are_told_apart_by_where_they_end() -> None:
    arrays = [
        objects(b"ab", b"c"),
        objects(b"a", b"bc"),
        objects("ab", "c"),
        objects(b"abc", b""),
        objects(b"", b"abc"),
    ]
    assert len({key(x=array) for array in arrays}) == len(arrays)


def test_objects_that_are_no_text_have_no_key() -> None:
    with pytest.raises(TypeError, match="Expected bytes or str in an array, got int"):
        key(x=objects(1))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0)])
def test_scalars_and_empty_arrays_have_keys_of_their_own(shape: tuple[int, ...]) -> None:
    assert key(x=np.zeros(shape, np.float32)) != key(x=np.zeros((1,), np.float32))


def test_the_hash_is_one_of_256_bits_chosen_once() -> None:
    assert fastest_hash() in {"sha256", "blake2b"}
    assert fastest_hash() is fastest_hash()


@pytest.mark.parametrize("name", ["sha256", "blake2b"])
def test_every_hash_makes_keys(name: str) -> None:
    scope = KeyScope("net", 1, "abc", "onnxruntime", hash_name=name)
    assert len(scope.key({"x": X}, ["y"])) == 32


_ARRAYS = nps.arrays(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "float16", "float32", "int32", "bool"]),
    shape=nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    elements={"allow_nan": False},
)
_REQUESTS = st.dictionaries(st.text(max_size=2), _ARRAYS, max_size=3)
_OUTPUTS = st.lists(st.text(max_size=2), max_size=2)


def identity(inputs: dict[str, np.ndarray], outputs: list[str]) -> object:
    tensors = {name: (one.dtype.str, one.shape, one.tobytes()) for name, one in inputs.items()}
    return sorted(tensors.items()), outputs


@given(_REQUESTS, _OUTPUTS, _REQUESTS, _OUTPUTS)
def test_keys_are_equal_exactly_where_requests_are(
    a: dict[str, np.ndarray], a_out: list[str], b: dict[str, np.ndarray], b_out: list[str]
) -> None:
    same = identity(a, a_out) == identity(b, b_out)
    assert (SCOPE.key(a, a_out) == SCOPE.key(b, b_out)) == same


@given(_ARRAYS.filter(lambda array: array.size > 0), st.data())
def test_the_same_bytes_in_another_shape_type_or_name_never_collide(
    array: np.ndarray, data: st.DataObject
) -> None:
    raw = array.reshape(-1).view(np.uint8)
    widths = [
        one for one in ("u1", "u2", "f2", "f4", "i4") if raw.size % np.dtype(one).itemsize == 0
    ]
    viewed = raw.view(data.draw(st.sampled_from(widths)))
    factor = data.draw(
        st.sampled_from([n for n in range(1, viewed.size + 1) if viewed.size % n == 0])
    )
    other = viewed.reshape(factor, -1)
    name = data.draw(st.sampled_from(["x", "x1"]))
    same = name == "x" and other.dtype == array.dtype and other.shape == array.shape
    assert (SCOPE.key({"x": array}, []) == SCOPE.key({name: other}, [])) == same


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
@settings(max_examples=50)
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
    filled(cache, digest(1), [objects(b"x" * 10_000)])
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


# W-TinyLFU


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


# Whether it pays


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
