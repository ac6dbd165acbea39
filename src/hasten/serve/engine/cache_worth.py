"""Whether caching pays for a model: hashing may cost a twentieth of computing, and no more."""

from __future__ import annotations

__all__ = ["CacheWorth"]

#: Above this share of computing, hashing every request costs more than hits are likely to save.
_SHARE = 0.05
#: Weight of a new time in the means.
_WEIGHT = 1 / 16
#: So many are measured before caching is given up.
_ENOUGH = 16
#: While it does not pay, one request in so many is hashed, to see whether that still holds.
_AGAIN = 256


class CacheWorth:
    """Mean times of hashing and computing one request of a model, and what follows from them.

    Ask ``pays`` once for every request; hash it only if so, and tell how long that took. Tell how
    long computing took, for each request its part of the batch. Caching pays until enough of both
    is known. Knows no clock: times are given in nanoseconds.
    """

    def __init__(self, share: float = _SHARE) -> None:
        self._share = share
        self._hash_ns = _Mean()
        self._compute_ns = _Mean()
        self._skipped = 0

    @property
    def hash_ns(self) -> float:
        """Mean time to hash one request; 0 before the first."""
        return self._hash_ns.value

    @property
    def compute_ns(self) -> float:
        """Mean time to compute one request; 0 before the first."""
        return self._compute_ns.value

    def hashed(self, ns: int) -> None:
        """Take notice of how long hashing one request took."""
        self._hash_ns.add(ns)

    def computed(self, ns: float) -> None:
        """Take notice of how long computing one request took."""
        self._compute_ns.add(ns)

    def pays(self) -> bool:
        """Whether to hash this request; counts it as skipped if not."""
        if min(self._hash_ns.count, self._compute_ns.count) < _ENOUGH:
            return True
        if self._hash_ns.value <= self._share * self._compute_ns.value:
            self._skipped = 0
            return True
        self._skipped += 1
        if self._skipped >= _AGAIN:
            self._skipped = 0
            return True
        return False


class _Mean:
    """A mean that forgets: exact over the first times, then exponentially weighted."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count = 0
        self.value = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) * max(_WEIGHT, 1 / self.count)
