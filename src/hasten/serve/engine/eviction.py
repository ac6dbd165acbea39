"""What leaves a cache that is full: the protocol of policies, and least recently used."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, Protocol

__all__ = ["EvictionPolicy", "Lru", "PolicyName"]

PolicyName = Literal["lru", "tiny-lfu"]


class EvictionPolicy(Protocol):
    """Keeps the keys of a cache within a number of bytes; it holds no values."""

    @property
    def used_bytes(self) -> int:
        """Bytes of all keys that are in; never above the capacity."""
        ...

    def asked(self, key: bytes) -> None:
        """Take notice that a key was asked for, whether it is in or not."""
        ...

    def insert(self, key: bytes, size_bytes: int) -> list[bytes]:
        """Put in a key that is not there; returns the keys that leave, which may be this one."""
        ...

    def remove(self, key: bytes) -> None:
        """Take out a key that is there."""
        ...


class Lru:
    """Whatever was asked for longest ago leaves first."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of all keys that are in."""
        return self._used_bytes

    def asked(self, key: bytes) -> None:
        """Make a key that is in the last to leave."""
        if key in self._sizes:
            self._sizes.move_to_end(key)

    def insert(self, key: bytes, size_bytes: int) -> list[bytes]:
        """Put in a key; one that is larger than all of the cache leaves at once."""
        if size_bytes > self._capacity_bytes:
            return [key]
        self._sizes[key] = size_bytes
        self._used_bytes += size_bytes
        gone = []
        while self._used_bytes > self._capacity_bytes:
            oldest, freed = self._sizes.popitem(last=False)
            self._used_bytes -= freed
            gone.append(oldest)
        return gone

    def remove(self, key: bytes) -> None:
        """Take out a key."""
        self._used_bytes -= self._sizes.pop(key)
