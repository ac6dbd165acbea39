"""An infer request in JSON, cut into its values and all that is said around them.

The arrays at ``inputs[i].data`` are nearly all of a request; what is left when they are cut out is
short, and says what they are. Keys that stand twice in one object are refused: which of them
counts is not said anywhere, and two readers would each take their own.

Source: RFC 8259 (JSON), sections 4 and 7.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Generator
from typing import NamedTuple

import msgspec

from hasten.errors import InvalidRequestError

__all__ = ["Cut", "Text", "cut", "string_end"]

#: What can be searched without a copy.
Text = bytes | bytearray | mmap.mmap

#: A bounded piece each, so that no match takes long.
_TOKEN = re.compile(rb'[ \t\n\r]{0,4096}+(?:(")|([{}\[\],:])|([^ \t\n\r"{}\[\],:]{1,64}+))?')
_IN_TEXTS = re.compile(rb'[^\[\]"]{0,4096}+(["\[\]])?')
#: What may be said around the values, and how deep.
_MOST_BYTES, _MOST_DEPTH = 1 << 18, 64
#: Tokens, and elements that are texts, that are read in one step.
_STEP = 512
#: From an object of the request to its values: where the array may stand that is cut out.
_PATH = ("inputs", None, "data")


class Cut(NamedTuple):
    """``spans`` are where the arrays are; ``frame`` is the rest, with ``[i]`` for span ``i``."""

    frame: bytes
    spans: list[tuple[int, int]]


class _Level:
    """An object or array that is open; ``keys`` are those of an object so far."""

    __slots__ = ("key", "keys")

    def __init__(self, mark: bytes) -> None:
        self.keys: set[str] | None = set() if mark == b"{" else None
        self.key: str | None = None


def cut(text: Text) -> Generator[None, None, Cut]:
    """Return the cut, in steps; raises InvalidRequestError for keys that stand twice.

    Of what is no JSON the frame is none either.
    """
    scan = _Scan(text)
    while scan.at < len(text):
        for _ in range(_STEP):
            scan.token()
        yield
    if scan.inside:
        raise InvalidRequestError("Expected an infer request as JSON, got an array without end")
    return Cut(b"".join((*scan.pieces, bytes(text[scan.copied :]))), scan.spans)


class _Scan:
    def __init__(self, text: Text) -> None:
        self.at = 0
        self.pieces: list[bytes] = []
        self.copied = 0
        self.spans: list[tuple[int, int]] = []
        self._text = text
        self._levels: list[_Level] = []
        self._cut_bytes = 0
        #: Whether a string that comes now is a key.
        self._key_next = False
        #: Where an array of texts began, and how many brackets are open in it.
        self._begin = self.inside = 0

    def token(self) -> None:
        """Take in the next token."""
        if self.inside:
            self._in_texts()
            return
        match = _TOKEN.match(self._text, self.at)
        if match is None or match.end() == self.at:
            return
        self.at = match.end()
        if self.at - self._cut_bytes > _MOST_BYTES:
            raise InvalidRequestError(
                f"Expected at most {_MOST_BYTES} bytes of JSON beside the data of inputs, got more"
            )
        if match[1]:
            self._string(match.start(1))
        elif match[2]:
            self._mark(match[2], match.start(2))

    def _mark(self, mark: bytes, at: int) -> None:
        levels = self._levels
        if mark == b"[" and self._is_data():
            self._cut_out(at)
        elif mark in b"{[":
            levels.append(_Level(mark))
            if len(levels) > _MOST_DEPTH:
                raise InvalidRequestError(f"Expected JSON of at most {_MOST_DEPTH} levels")
            self._key_next = mark == b"{"
        elif mark == b",":
            self._key_next = bool(levels) and levels[-1].keys is not None
        elif mark == b":":
            self._key_next = False
        elif levels:
            levels.pop()

    def _is_data(self) -> bool:
        return tuple(level.key for level in self._levels) == _PATH

    def _string(self, begin: int) -> None:
        self.at = end = string_end(self._text, begin)
        if not self._key_next:
            return
        self._key_next = False
        level = self._levels[-1]
        try:
            key = msgspec.json.decode(self._text[begin:end], type=str)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"Expected an infer request as JSON: {error}") from error
        if level.keys is None or key in level.keys:
            raise InvalidRequestError(f"Expected each key once, got {key!r} twice in one object")
        level.keys.add(key)
        level.key = key

    def _cut_out(self, begin: int) -> None:
        """Find the end of an array: of numbers before the next name or end of an object."""
        text = self._text
        stop = text.find(b'"', begin)
        end = text.find(b"}", begin, stop if stop >= 0 else len(text))
        stop = end if end >= 0 else stop if stop >= 0 else len(text)
        end = text.rfind(b"]", begin, stop) + 1
        self._begin = begin
        if end:
            self._end_array(end)
        else:
            self.at, self.inside = begin + 1, 1

    def _in_texts(self) -> None:
        text = self._text
        match = _IN_TEXTS.match(text, self.at)
        if match is None or match.end() == self.at:
            raise InvalidRequestError("Expected an infer request as JSON, got an array without end")
        self.at = match.end()
        if match[1] == b'"':
            self.at = string_end(text, self.at - 1)
        elif match[1]:
            self.inside += 1 if match[1] == b"[" else -1
            if not self.inside:
                self._end_array(self.at)

    def _end_array(self, end: int) -> None:
        begin = self._begin
        self.pieces += (bytes(self._text[self.copied : begin]), b"[%d]" % len(self.spans))
        self.spans.append((begin, end))
        self._cut_bytes += end - begin
        self.at = self.copied = end


def string_end(text: Text, begin: int) -> int:
    """Return where the string stops that begins there with a quotation mark."""
    at = begin + 1
    while (quote := text.find(b'"', at)) >= 0:
        window = 16
        while True:
            before = text[max(at, quote - window) : quote]
            slashes = len(before) - len(before.rstrip(b"\\"))
            if slashes < len(before) or len(before) < window:
                break
            window *= 16
        if slashes % 2 == 0:
            return quote + 1
        at = quote + 1
    raise InvalidRequestError("Expected an infer request as JSON, got a string without end")
