"""Arrays that a parent and its worker both see: memory that both have mapped, and no copies of it.

A message says where in the memory an array lies. Strings have no fixed size, so they are packed.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hasten.graph import numpy_dtype
from hasten.runtimes import Arrays

__all__ = ["Placed", "SharedMemory", "new_memory"]

#: Arrays begin at multiples of this, as vector instructions like them.
_ALIGNMENT = 64
#: The dtype of arrays of strings, whose elements are Python objects.
_TEXT = "object"


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """Where an array lies: ``size`` bytes at ``offset``; for strings these are a msgpack list."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


def new_memory(folder: Path) -> int:
    """Return the descriptor of new memory: on Linux it has no file, else one in ``folder``."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("hasten")
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())


class SharedMemory:
    """The mapping of a descriptor in one process. It grows with what is written, and never shrinks.

    What ``read`` returns lies in the memory itself, and changes with the next ``write`` of either
    side. The descriptor stays its owner's to close.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map = self._mapped(mmap.PAGESIZE)

    def write(self, arrays: Arrays) -> tuple[Placed, ...]:
        """Write arrays one after the other; TypeError for one that is neither numbers nor text."""
        ready = {name: _packed(np.asarray(array)) for name, array in arrays.items()}
        places: list[Placed] = []
        end = 0
        for name, (dtype, shape, array) in ready.items():
            places.append(Placed(name, dtype, shape, end, array.nbytes))
            end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._reach(end)
        for (_, _, array), place in zip(ready.values(), places, strict=True):
            # A dtype of the other byte order is written in this machine's.
            kind = array.dtype if place.dtype == _TEXT else numpy_dtype(place.dtype)
            np.copyto(self._array(kind, array.shape, place.offset), array)
        return tuple(places)

    def read(self, places: Sequence[Placed]) -> Arrays:
        """Return the arrays that lie there."""
        self._reach(max((place.offset + place.size for place in places), default=0))
        return {place.name: self._read(place) for place in places}

    def _read(self, place: Placed) -> np.ndarray:
        if place.dtype != _TEXT:
            return self._array(numpy_dtype(place.dtype), place.shape, place.offset)
        texts = np.empty(place.shape, object)
        packed = self._map[place.offset : place.offset + place.size]
        texts.reshape(-1)[:] = msgspec.msgpack.decode(packed, type=list[str])
        return texts

    def _array(self, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> np.ndarray:
        return np.ndarray(shape, dtype, buffer=self._map, offset=offset)

    def _reach(self, end: int) -> None:
        """Map the memory up to ``end``, anew where it is too short: arrays keep the old mapping."""
        if end > len(self._map):
            self._map = self._mapped(max(end, 2 * len(self._map)))

    def _mapped(self, size: int) -> mmap.mmap:
        if os.fstat(self._descriptor).st_size < size:
            os.ftruncate(self._descriptor, size)
        return mmap.mmap(self._descriptor, size)


def _packed(array: np.ndarray) -> tuple[str, tuple[int, ...], np.ndarray]:
    """Return an array's dtype and shape, and what of it is written."""
    if array.dtype.kind != "O":
        # NumPy's own name for text says how many bits, and is no dtype.
        name = array.dtype.str if array.dtype.kind in "US" else array.dtype.name
        return name, array.shape, array
    texts = array.reshape(-1).tolist()
    strange = next((one for one in texts if not isinstance(one, str)), None)
    if strange is not None:
        raise TypeError(f"an array of objects holds {type(strange).__name__}, not text alone")
    return _TEXT, array.shape, np.frombuffer(msgspec.msgpack.encode(texts), np.uint8)
