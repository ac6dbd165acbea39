"""Tables of a flatbuffer, read with the suspicion that a file from elsewhere deserves.

Every offset is followed only after it was found to lie inside of the file, and a vector is seen
only after its whole length was: hostile bytes cost no more memory than they have themselves.

Source: "FlatBuffer Internals" of the FlatBuffers documentation. All numbers are little-endian; an
offset counts from where it is written.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from hasten.graph.tflite.refusal import Damaged

__all__ = ["Table", "root"]

_OFFSET = struct.Struct("<I")
_BACK = struct.Struct("<i")
_VTABLE = struct.Struct("<HH")
_FIELD = struct.Struct("<H")
_NUMBERS = {code: struct.Struct(f"<{code}") for code in "bBiIQ?"}


def root(data: bytes) -> Table:
    """The table that a file begins with."""
    if len(data) < _OFFSET.size:
        raise Damaged(f"{len(data)} bytes")
    return Table(data, _OFFSET.unpack_from(data)[0])


class Table:
    """One table: its fields by their number in the schema. Absent fields have their default."""

    __slots__ = ("_data", "_vtable", "_vtable_size", "position")

    def __init__(self, data: bytes, position: int) -> None:
        if not 0 <= position <= len(data) - _BACK.size:
            raise Damaged(f"a table at byte {position} of {len(data)}")
        vtable = position - _BACK.unpack_from(data, position)[0]
        if not 0 <= vtable <= len(data) - _VTABLE.size:
            raise Damaged(f"a table whose fields are listed at byte {vtable} of {len(data)}")
        size, inline = _VTABLE.unpack_from(data, vtable)
        if size < _VTABLE.size or vtable + size > len(data) or position + inline > len(data):
            raise Damaged(f"a table at byte {position} that is longer than the file")
        self._data = data
        self._vtable = vtable
        self._vtable_size = size
        self.position = position

    def number(self, slot: int, code: str, default: int = 0) -> int:
        """A number; ``code`` is its kind as in ``struct``."""
        at = self._place(slot)
        if at is None:
            return default
        kind = _NUMBERS[code]
        self._require(at, kind.size)
        return int(kind.unpack_from(self._data, at)[0])

    def table(self, slot: int) -> Table | None:
        """The table that a field leads to."""
        at = self._followed(slot)
        return None if at is None else Table(self._data, at)

    def tables(self, slot: int) -> list[int]:
        """Positions of a vector of tables; none of them has been looked at."""
        at, count = self._vector(slot, _OFFSET.size)
        offsets = np.frombuffer(self._data, "<u4", count, at).astype(np.int64)
        found: list[int] = (offsets + at + _OFFSET.size * np.arange(count)).tolist()
        return found

    def array(self, slot: int, dtype: str) -> npt.NDArray[np.generic]:
        """A vector of numbers, as a view of the file."""
        kind = np.dtype(dtype)
        at, count = self._vector(slot, kind.itemsize)
        return np.frombuffer(self._data, kind, count, at)

    def span(self, slot: int) -> tuple[int, int]:
        """Where in the file a vector of bytes begins, and how many there are."""
        return self._vector(slot, 1)

    def text(self, slot: int) -> str:
        """A string; empty where there is none."""
        at, count = self._vector(slot, 1)
        try:
            return self._data[at : at + count].decode("utf-8")
        except UnicodeDecodeError:
            raise Damaged(f"a text at byte {at} that is not UTF-8") from None

    def at(self, position: int) -> Table:
        """Another table of the same file."""
        return Table(self._data, position)

    def _place(self, slot: int) -> int | None:
        entry = _VTABLE.size + _FIELD.size * slot
        if entry + _FIELD.size > self._vtable_size:
            return None
        offset: int = _FIELD.unpack_from(self._data, self._vtable + entry)[0]
        return self.position + offset if offset else None

    def _followed(self, slot: int) -> int | None:
        at = self._place(slot)
        if at is None:
            return None
        self._require(at, _OFFSET.size)
        to: int = at + _OFFSET.unpack_from(self._data, at)[0]
        return to

    def _vector(self, slot: int, item_bytes: int) -> tuple[int, int]:
        """Where the items begin, and how many there are."""
        at = self._followed(slot)
        if at is None:
            return 0, 0
        self._require(at, _OFFSET.size)
        count: int = _OFFSET.unpack_from(self._data, at)[0]
        self._require(at + _OFFSET.size, count * item_bytes)
        return at + _OFFSET.size, count

    def _require(self, at: int, size: int) -> None:
        if not 0 <= at <= len(self._data) - size:
            raise Damaged(f"{size} bytes at byte {at} of {len(self._data)}")
