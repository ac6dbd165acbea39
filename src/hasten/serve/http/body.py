"""The body of a request: room for it, and what is in it once it is decompressed."""

from __future__ import annotations

import asyncio
import mmap
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from hasten.serve.http.exchange import HttpError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Inflation", "room", "searchable"]

#: What zlib calls the formats; identity is none.
_WINDOWS = {b"gzip": 31, b"deflate": 15}
#: What is inflated at once: by the loop, and by a thread, which lets go of the interpreter.
_FIRST_BYTES, _STEP_BYTES, _FED_BYTES = 65_536, 1 << 19, 1 << 14
#: A text that is longer is not copied.
_TEXT_BYTES = 32_768
_THREADS = ThreadPoolExecutor(1, "inflate")


def room(size: int, *, text: bool = False) -> memoryview:
    """Return memory for a body; what no client fills takes none of the machine's.

    A long ``text`` can be searched where it is.
    """
    if text and size > _TEXT_BYTES:
        return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return np.empty(size, np.uint8).data


def searchable(body: bytes | memoryview) -> bytes | bytearray | mmap.mmap:
    """Return a body as what can be searched; a copy where it is short or no text."""
    if isinstance(body, bytes):
        return body
    if isinstance(body.obj, bytearray | mmap.mmap) and len(body.obj) == len(body):
        return body.obj
    return bytes(body)


class Inflation:
    """Makes a body longer that was compressed, to ``limit`` bytes at most.

    Raises HttpError for an encoding that is unknown; ``first`` and ``rest`` do for bytes that are
    not in it, and for more of them than the limit.
    """

    def __init__(self, body: bytes | memoryview, encoding: bytes, limit: int) -> None:
        if encoding not in _WINDOWS:
            raise HttpError(415, f"Expected Content-Encoding gzip or deflate, got {encoding!r}")
        self._encoding = encoding.decode()
        self._decoder = zlib.decompressobj(_WINDOWS[encoding])
        self._limit = limit
        self._packed = memoryview(body)
        self._fed = 0
        self._begun = b""

    def first(self) -> bytes | None:
        """Return the whole where it is short; None where there is more to come."""
        self._begun = self._step(_FIRST_BYTES)
        return self._begun if self._over() else None

    async def rest(self, count: Callable[[int], None]) -> memoryview:
        """Return the whole; ``count`` is told of each piece how long it is, and may refuse it."""
        target = mmap.mmap(-1, self._limit, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        piece, length = self._begun, 0
        loop = asyncio.get_running_loop()
        while True:
            if length + len(piece) > self._limit:
                raise HttpError(
                    413, f"Expected a body of at most {self._limit} bytes when decompressed"
                )
            count(len(piece))
            target[length : length + len(piece)] = piece
            length += len(piece)
            if self._over():
                target.resize(length)
                return memoryview(target)
            piece = await loop.run_in_executor(_THREADS, self._step, _STEP_BYTES)

    def _step(self, most: int) -> bytes:
        """Return the next piece; of what is packed, only so much is fed as is used up soon."""
        decoder, pieces = self._decoder, []
        try:
            while most and not decoder.eof:
                packed: bytes | memoryview = decoder.unconsumed_tail
                if not packed:
                    packed = self._packed[self._fed : self._fed + _FED_BYTES]
                    self._fed += len(packed)
                piece = decoder.decompress(packed, most)
                if not packed and not piece:
                    raise self._wrong("it ends too early")
                pieces.append(piece)
                most -= len(piece)
        except zlib.error as error:
            raise self._wrong(str(error)) from error
        return b"".join(pieces)

    def _over(self) -> bool:
        whole = self._decoder.eof
        if whole and (self._decoder.unused_data or self._fed < len(self._packed)):
            raise self._wrong("more behind it")
        return whole

    def _wrong(self, got: str) -> HttpError:
        return HttpError(400, f"Expected one whole {self._encoding} body, got another: {got}")
