"""W-TinyLFU: what is asked for once does not push out what is asked for often.

Sources: Einziger, Friedman, Manes (arXiv 1512.00727) for the window, the segments and the sketch;
Einziger, Eytan, Friedman, Manes, "Lightweight Robust Size Aware Cache Management" (arXiv
2105.08770) for entries of unlike sizes: one is admitted if it is asked for more often than all
those together that would have to leave for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from hasten.serve.engine.frequency_sketch import FrequencySketch

__all__ = ["TinyLfu"]

_WINDOW_SHARE = 0.01
_PROTECTED_SHARE = 0.8


class _Segment:
    """Keys with their sizes, the one asked for longest ago first."""

    def __init__(self) -> None:
        self.sizes: OrderedDict[bytes, int] = OrderedDict()
        self.used_bytes = 0

    def put(self, key: bytes, size_bytes: int) -> None:
        self.sizes[key] = size_bytes
        self.used_bytes += size_bytes

    def take(self, key: bytes) -> int:
        size_bytes = self.sizes.pop(key)
        self.used_bytes -= size_bytes
        return size_bytes

    def take_oldest(self) -> tuple[bytes, int]:
        key, size_bytes = self.sizes.popitem(last=False)
        self.used_bytes -= size_bytes
        return key, size_bytes


class TinyLfu:
    """A window of 1 % for what is new, before a main part that only the frequent enter.

    The main part is a segmented LRU: what is asked for again there is protected, in up to 80 % of
    it; the rest is on probation and leaves first. All shares are of bytes.
    """

    def __init__(self, capacity_bytes: int) -> None:
        window_bytes = int(capacity_bytes * _WINDOW_SHARE)
        self._window_bytes = window_bytes
        self._main_bytes = capacity_bytes - window_bytes
        self._protected_bytes = int(self._main_bytes * _PROTECTED_SHARE)
        self._window, self._probation, self._protected = _Segment(), _Segment(), _Segment()
        self._sketch = FrequencySketch()

    @property
    def used_bytes(self) -> int:
        """Bytes of all keys that are in."""
        return self._window.used_bytes + self._main_used

    @property
    def _main_used(self) -> int:
        return self._probation.used_bytes + self._protected.used_bytes

    def asked(self, key: bytes) -> None:
        """Count the request, and move a key that is in away from the end that leaves."""
        self._sketch.add(key)
        if key in self._probation.sizes:
            self._protected.put(key, self._probation.take(key))
            while self._protected.used_bytes > self._protected_bytes:
                self._probation.put(*self._protected.take_oldest())
            return
        for segment in (self._protected, self._window):
            if key in segment.sizes:
                segment.sizes.move_to_end(key)

    def insert(self, key: bytes, size_bytes: int) -> list[bytes]:
        """Put a key into the window; what that pushes out enters the main part or leaves."""
        if size_bytes > self._main_bytes:
            return [key]
        if size_bytes > self._window_bytes:
            gone = self._admit(key, size_bytes)
        else:
            self._window.put(key, size_bytes)
            gone = []
            while self._window.used_bytes > self._window_bytes:
                gone += self._admit(*self._window.take_oldest())
        self._sketch.reserve(self._count)
        return gone

    @property
    def _count(self) -> int:
        return sum(len(one.sizes) for one in (self._window, self._probation, self._protected))

    def _admit(self, key: bytes, size_bytes: int) -> list[bytes]:
        """Put a key into the main part if it is worth more than what it displaces."""
        needed = self._main_used + size_bytes - self._main_bytes
        worth = self._sketch.estimate(key)
        victims: list[bytes] = []
        for victim, freed in self._in_order_of_leaving():
            if needed <= 0:
                break
            worth -= self._sketch.estimate(victim)
            if worth <= 0:
                return [key]
            needed -= freed
            victims.append(victim)
        for victim in victims:
            self.remove(victim)
        self._probation.put(key, size_bytes)
        return victims

    def _in_order_of_leaving(self) -> Iterator[tuple[bytes, int]]:
        return chain(self._probation.sizes.items(), self._protected.sizes.items())

    def remove(self, key: bytes) -> None:
        """Take out a key."""
        for segment in (self._window, self._probation, self._protected):
            if key in segment.sizes:
                segment.take(key)
                return
        raise KeyError(key)
