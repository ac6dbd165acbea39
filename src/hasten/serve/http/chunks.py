"""A body in chunks: read strictly, and joined as it comes.

Source: RFC 9112, section 7.1.
"""

from __future__ import annotations

import re

from hasten.serve.http.exchange import HttpError

__all__ = ["ChunkedBody"]

#: A size in hexadecimal, and extensions, which nobody here knows.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:[ \t]*+;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n")
_END = b"\r\n"
#: The longest line of a size or trailer, and the most bytes of all trailers.
_LINE_BYTES, _TRAILER_BYTES = 4096, 65_536
#: Chunks that are read before others have their turn: some 1 ms of tiny ones.
_TURN = 1024
_SHOWN = 60


class ChunkedBody:
    """Takes bytes until the body is whole.

    ``data`` is what has come, in one piece of memory however small the chunks are. Of one that is
    not ``kept`` nothing is: it passes by. ``length`` counts either way.
    """

    __slots__ = ("_left", "_limit", "_state", "_trailer_bytes", "data", "kept", "length", "whole")

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.kept = True
        self.length = 0
        self.whole = False
        self._limit = limit
        #: Bytes of this chunk still to come.
        self._left = 0
        self._trailer_bytes = 0
        self._state = self._size

    def feed(self, new: bytes) -> int:
        """Take bytes and return how many were; the rest are to come again with those behind them.

        Reads so much as one turn is. Raises HttpError, which ends the connection, for what are no
        chunks.
        """
        at = 0
        for _ in range(_TURN):
            then = self._state(new, at)
            if then == at or self.whole:
                return then
            at = then
        return at

    def _size(self, new: bytes, at: int) -> int:
        line = _line(new, at)
        if not line:
            return at
        size = _SIZE.fullmatch(line)
        if size is None:
            raise _wrong("the size of a chunk in hexadecimal", line)
        self._left = int(size[1], 16)
        self.length += self._left
        if self.length > self._limit:
            raise HttpError(413, f"Expected a body of at most {self._limit} bytes", closes=True)
        self._state = self._chunk if self._left else self._trailers
        return at + len(line)

    def _chunk(self, new: bytes, at: int) -> int:
        piece = new[at : at + self._left]
        if self.kept:
            self.data += piece
        self._left -= len(piece)
        at += len(piece)
        if self._left:
            return at
        if new[at : at + 2] == _END:  # mostly it is here already
            self._state = self._size
            return at + 2
        self._state = self._chunk_end
        return at

    def _chunk_end(self, new: bytes, at: int) -> int:
        end = new[at : at + 2]
        if not _END.startswith(end):
            raise _wrong("the end of a chunk", end)
        if end != _END:
            return at
        self._state = self._size
        return at + 2

    def _trailers(self, new: bytes, at: int) -> int:
        line = _line(new, at)
        self._trailer_bytes += len(line)
        if line == _END:
            self.whole = True
        elif self._trailer_bytes > _TRAILER_BYTES:
            raise _too_long(_TRAILER_BYTES, "trailers")
        elif line and not _TRAILER.fullmatch(line):
            raise _wrong("a trailer 'Name: value'", line)
        return at + len(line)


def _line(new: bytes, at: int) -> bytes:
    """Return the line that begins there, its end included; nothing where it is not whole yet."""
    end = new.find(b"\n", at, at + _LINE_BYTES) + 1
    if not end and len(new) - at >= _LINE_BYTES:
        raise _too_long(_LINE_BYTES, "a line of chunks")
    return new[at:end] if end else b""


def _too_long(most: int, what: str) -> HttpError:
    return HttpError(431, f"Expected at most {most} bytes in {what}, got more", closes=True)


def _wrong(expected: str, got: bytes) -> HttpError:
    return HttpError(400, f"Expected {expected}, got {got[:_SHOWN]!r}", closes=True)
