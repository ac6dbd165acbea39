"""How often keys were asked for of late, in half a byte each.

Source: Einziger, Friedman, Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
Transactions on Storage 13(4), 2017 (arXiv 1512.00727): a count-min sketch of 4-bit counters with
minimal increment, halved after a sample of ten times as many requests as there are entries.
"""

from __future__ import annotations

import struct

__all__ = ["FrequencySketch"]

_ROWS = 4
_MOST = 15
_SAMPLE = 10
_SMALLEST = 64
#: A key is a digest: its four words are four independent hashes.
_HASHES = struct.Struct("<4Q")
#: Both counters of a byte halved.
_HALVED = bytes(((value >> 1) & 0x77) for value in range(256))


class FrequencySketch:
    """Estimates, 0 to 15, which are never too low but by the halving.

    It starts for few entries and doubles by ``reserve``, which keeps the counts. Keys are digests
    of 32 bytes.
    """

    def __init__(self, entries: int = _SMALLEST) -> None:
        self._width = _SMALLEST
        self._rows = [bytearray(self._width // 2) for _ in range(_ROWS)]
        self._added = 0
        self.reserve(entries)

    def reserve(self, entries: int) -> None:
        """Make room for so many entries, with a counter in each row for every one."""
        while self._width < entries:
            # An index modulo twice the width is the old one, or that and the width.
            self._rows = [row + row for row in self._rows]
            self._width *= 2

    def add(self, key: bytes) -> None:
        """Count one request: only those of its counters that are lowest rise."""
        places = self._places(key)
        counts = [(row[at] >> shift) & _MOST for row, at, shift in places]
        least = min(counts)
        if least < _MOST:
            for (row, at, shift), count in zip(places, counts, strict=True):
                if count == least:
                    row[at] += 1 << shift
        self._added += 1
        if self._added >= _SAMPLE * self._width:
            self._halve()

    def estimate(self, key: bytes) -> int:
        """Return how often a key was asked for of late."""
        return min((row[at] >> shift) & _MOST for row, at, shift in self._places(key))

    def _places(self, key: bytes) -> list[tuple[bytearray, int, int]]:
        """Return, by row, which byte the counter is in and how far it is shifted there."""
        mask = self._width - 1
        indices = [word & mask for word in _HASHES.unpack(key)]
        return [
            (row, index >> 1, (index & 1) * 4)
            for row, index in zip(self._rows, indices, strict=True)
        ]

    def _halve(self) -> None:
        self._rows = [row.translate(_HALVED) for row in self._rows]
        self._added //= 2
