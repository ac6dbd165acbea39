"""The response cache: answers by key within a budget of bytes, each computed by one request only.

One thread calls it, the event loop's; nothing here waits. A request that begins is told one of

- ``Hit``: here is the answer;
- ``Leads``: nobody computes it yet, so compute it, then call ``finish`` or ``fail``;
- ``Waits``: a twin computes it; ``finish`` or ``fail`` returns this request's waiter.

**Cancellation.** A request that gives up calls ``leave``. If it led and had not been computed, the
first of its twins leads from then on and is returned: the caller has that one computed in its
stead, so no twin is lost. A leader whose batch runs already need not leave: let it run, and call
``finish`` as ever.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from hasten.serve.engine.eviction import EvictionPolicy, Lru, PolicyName
from hasten.serve.engine.tiny_lfu import TinyLfu

__all__ = [
    "POLICIES",
    "CacheStatistics",
    "Finished",
    "Hit",
    "Leads",
    "ResponseCache",
    "Waits",
]

W = TypeVar("W")

#: Policies by name. To add one, follow EvictionPolicy and give it a line.
POLICIES: dict[PolicyName, Callable[[int], EvictionPolicy]] = {"lru": Lru, "tiny-lfu": TinyLfu}

#: What an entry takes beside its arrays: the key, the record, and its places in two dictionaries.
_ENTRY_BYTES = 480


@dataclass(frozen=True, slots=True)
class Hit:
    """The answer, as read-only arrays, and the time that computing it had taken."""

    arrays: tuple[np.ndarray, ...]
    saved_ns: int


@dataclass(frozen=True, slots=True)
class Leads:
    """The request is to compute the answer."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The request has a twin that computes the answer."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[W]):
    """The answer, as read-only copies, and the waiters of all twins that are to have it."""

    arrays: tuple[np.ndarray, ...]
    waiters: tuple[W, ...]


@dataclass(slots=True)
class CacheStatistics:
    """Counters that only rise, but ``entries`` and ``used_bytes``, which are now.

    ``coalesced`` requests waited for a twin. ``saved_ns`` is the computing that hits and twins made
    unnecessary. ``refused`` answers were not kept for lack of room or of frequency, and
    ``evicted`` ones made room for others.
    """

    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    saved_ns: int = 0
    insertions: int = 0
    refused: int = 0
    evicted: int = 0
    expired: int = 0
    entries: int = 0
    used_bytes: int = 0


@dataclass(slots=True)
class _Entry:
    arrays: tuple[np.ndarray, ...]
    cost_ns: int
    inserted_ns: int


@dataclass(slots=True)
class _Flight(Generic[W]):
    leader: W
    twins: list[W] = field(default_factory=list)


_LEADS, _WAITS = Leads(), Waits()


class ResponseCache(Generic[W]):
    """Answers within ``capacity_bytes``, each for at most ``ttl_ns``; None keeps them for good.

    ``W`` is whatever stands for a request that waits; it is compared by identity. Times are
    nanoseconds on the clock ``now_ns``, which never runs backwards.
    """

    def __init__(
        self,
        capacity_bytes: int,
        *,
        policy: PolicyName = "lru",
        ttl_ns: int | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.statistics = CacheStatistics()
        self._policy = POLICIES[policy](capacity_bytes)
        self._ttl_ns = ttl_ns
        self._now_ns = now_ns
        #: In the order of insertion, so of expiry too.
        self._entries: dict[bytes, _Entry] = {}
        self._flights: dict[bytes, _Flight[W]] = {}

    def begin(self, key: bytes, waiter: W) -> Hit | Leads | Waits:
        """Ask for an answer; ``waiter`` stands for the request where there is none yet."""
        self._policy.asked(key)
        if self._ttl_ns is not None:
            self._expire(self._now_ns() - self._ttl_ns)
        statistics = self.statistics
        entry = self._entries.get(key)
        if entry is not None:
            statistics.hits += 1
            statistics.saved_ns += entry.cost_ns
            return Hit(entry.arrays, entry.cost_ns)
        flight = self._flights.get(key)
        if flight is not None:
            statistics.coalesced += 1
            flight.twins.append(waiter)
            return _WAITS
        statistics.misses += 1
        self._flights[key] = _Flight(waiter)
        return _LEADS

    def finish(self, key: bytes, arrays: Sequence[np.ndarray], cost_ns: int) -> Finished[W]:
        """Keep an answer that took ``cost_ns`` to compute; the arrays are copied.

        Returns the copies and the twins' waiters, without the leader's. An answer that finds no
        room still reaches the twins.
        """
        copies = tuple(_frozen(array) for array in arrays)
        flight = self._flights.pop(key, None)
        twins = tuple(flight.twins) if flight else ()
        self.statistics.saved_ns += cost_ns * len(twins)
        self._keep(key, copies, cost_ns)
        return Finished(copies, twins)

    def fail(self, key: bytes) -> tuple[W, ...]:
        """Forget a computation that failed; returns the twins' waiters, to be told the error.

        The failure is not kept: the next request of this key leads again.
        """
        flight = self._flights.pop(key, None)
        return tuple(flight.twins) if flight else ()

    def leave(self, key: bytes, waiter: W) -> W | None:
        """Take out a request that gave up before its answer was there.

        Returns the twin that leads from now on and must be computed, or None where the request did
        not lead or had no twin.
        """
        flight = self._flights.get(key)
        if flight is None:
            return None
        if flight.leader is not waiter:
            flight.twins = [twin for twin in flight.twins if twin is not waiter]
            return None
        if not flight.twins:
            del self._flights[key]
            return None
        flight.leader = flight.twins.pop(0)
        return flight.leader

    def clear(self) -> None:
        """Drop all answers; what is being computed goes on."""
        for key in list(self._entries):
            self._drop(key)
        self._count()

    def _keep(self, key: bytes, arrays: tuple[np.ndarray, ...], cost_ns: int) -> None:
        now_ns = self._now_ns()
        if self._ttl_ns is not None:
            self._expire(now_ns - self._ttl_ns)
        if key in self._entries:
            self._drop(key)
        self._entries[key] = _Entry(arrays, cost_ns, now_ns)
        gone = self._policy.insert(key, _ENTRY_BYTES + _size_bytes(arrays))
        for other in gone:
            del self._entries[other]
        refused = key in gone
        self.statistics.insertions += not refused
        self.statistics.refused += refused
        self.statistics.evicted += len(gone) - refused
        self._count()

    def _expire(self, inserted_until_ns: int) -> None:
        """Drop what was inserted at this time or before: the first of the entries."""
        expired = 0
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.inserted_ns > inserted_until_ns:
                break
            self._drop(key)
            expired += 1
        if expired:
            self.statistics.expired += expired
            self._count()

    def _drop(self, key: bytes) -> None:
        del self._entries[key]
        self._policy.remove(key)

    def _count(self) -> None:
        self.statistics.entries = len(self._entries)
        self.statistics.used_bytes = self._policy.used_bytes


def _frozen(array: np.ndarray) -> np.ndarray:
    copy = np.array(array, order="C", copy=True)
    copy.setflags(write=False)
    return copy


def _size_bytes(arrays: tuple[np.ndarray, ...]) -> int:
    """Count what arrays take with their headers, and objects in them with theirs."""
    total = sys.getsizeof(arrays)
    for array in arrays:
        total += sys.getsizeof(array)
        if array.dtype.hasobject:
            total += sum(sys.getsizeof(value) for value in array.ravel().tolist())
    return total
