"""Values of a JSON array as a tensor: read strictly, a piece at a time.

An array of numbers is cut at commas into pieces that each take less than a millisecond, so that
64 MB of them neither hold the event loop nor ever stand in memory as objects. Nested arrays need
no reading of their own: between two numbers stand as many brackets that close as open.

Source: Open Inference Protocol (KServe V2), "Tensor Data".
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import msgspec
import numpy as np

from hasten.errors import InvalidRequestError
from hasten.serve.http.datatypes import DATATYPES
from hasten.serve.http.json_cut import Text, string_end
from hasten.serve.http.steps import drained

__all__ = ["array_from_json", "read_array"]

#: Bytes of a piece, and elements that are texts that are read in a step.
_PIECE_BYTES, _STEP = 16_384, 512
#: Levels that an array may be nested in: more than any tensor has axes.
_MOST_DEPTH = 32
_WHITE = b" \t\n\r"
#: White space in the middle of a value, which is none between two.
_SPLIT_VALUE = re.compile(rb"[^\[\],\s][ \t\n\r]++[^\[\],\s]")
#: What is before a text, and behind it.
_BEFORE, _BEHIND = re.compile(rb"[ \t\n\r\[]{0,4096}+"), re.compile(rb"[ \t\n\r\]]{0,4096}+")
#: Texts that follow one another, each with its comma.
_RUN = re.compile(rb'(?:[ \t\n\r]{0,64}+"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\n\r]{0,64}+,)++', re.DOTALL)
_WHITES = re.compile(rb"[ \t\n\r]{0,4096}+")


_FLOATS = msgspec.json.Decoder(list[float])
_INTS = msgspec.json.Decoder(list[int])
_BOOLS = msgspec.json.Decoder(list[bool])
_TEXTS = msgspec.json.Decoder(list[str])
_TEXT = msgspec.json.Decoder(str)
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "b": _BOOLS,
    "i": _INTS,
    "u": _INTS,
    "O": _TEXTS,
}
#: What is raised for values of another kind; a warning where the server made it an error.
_NO_VALUES = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RuntimeWarning)


def array_from_json(
    data: bytes | memoryview, datatype: str, shape: tuple[int, ...], name: str
) -> np.ndarray:
    """Return the values of a JSON array, flat or nested as the shape is, as a tensor.

    Raises InvalidRequestError where there are too few or too many, or they are of another kind.
    """
    dtype = DATATYPES[datatype]
    start = bytes(data[1:65]).lstrip(_WHITE)
    if len(data) > _PIECE_BYTES or not start or start.startswith(b"["):
        return drained(
            read_array(bytes(data), 0, len(data), datatype=datatype, shape=shape, name=name)
        )
    try:
        values = _DECODERS.get(dtype.kind, _FLOATS).decode(data)
        if len(values) != _count(shape):
            raise _not_as_many(len(values), shape, name)
        array = np.empty(len(values), dtype) if dtype.kind == "O" else np.array(values, dtype)
        if dtype.kind == "O":
            array[:] = values
    except _NO_VALUES as error:
        raise _no_values(datatype, name, error) from error
    return array.reshape(shape)


def read_array(
    text: Text, begin: int, end: int, *, datatype: str, shape: tuple[int, ...], name: str
) -> Generator[None, None, np.ndarray]:
    """Do what array_from_json does, in steps, with the part of a text from begin to end."""
    dtype = DATATYPES[datatype]
    wanted = _count(shape)
    if wanted > end - begin:  # before there is room made for them
        raise _not_as_many(end - begin, shape, name, "at most ")
    if not wanted and _holds_nothing(text, begin, end):
        return np.empty(shape, dtype)
    array = np.empty(wanted, dtype)
    filled = 0
    decoder = _DECODERS.get(dtype.kind, _FLOATS)
    pieces = _texts if dtype.kind == "O" else _pieces
    try:
        for piece in pieces(text, begin, end):
            values = piece if isinstance(piece, list) else decoder.decode(piece)
            if filled + len(values) > wanted:
                raise _not_as_many(filled + len(values), shape, name, "at least ")
            array[filled : filled + len(values)] = (
                values if dtype.kind == "O" else np.array(values, dtype)
            )
            filled += len(values)
            yield
    except _NO_VALUES as error:
        raise _no_values(datatype, name, error) from error
    if filled != wanted:
        raise _not_as_many(filled, shape, name)
    return array.reshape(shape)


def _holds_nothing(text: Text, begin: int, end: int) -> bool:
    """Return whether an array has rows alone, such as ``[[], []]``."""
    data = bytes(text[begin : min(end, begin + _PIECE_BYTES)])
    if end - begin > _PIECE_BYTES or data.strip(b"[]," + _WHITE):
        return False
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False  # it is read again, and what is wrong with it is said
    return True


def _pieces(text: Text, begin: int, end: int) -> Generator[bytes, None, None]:
    """Yield flat arrays that an array, nested or not, consists of one after another."""
    rows = _Rows()
    at, last = begin, False
    while not last:
        comma = text.find(b",", min(at + _PIECE_BYTES, end), end)
        last = comma < 0
        stop = end if last else comma
        if stop - at > 4 * _PIECE_BYTES:
            raise msgspec.DecodeError("a value without end")
        yield b"[" + rows.flat(bytes(text[at:stop]), last=last) + b"]"
        at = stop + 1


class _Rows:
    """Takes the brackets out of pieces: as many stand behind a value as before the next."""

    def __init__(self) -> None:
        self._depth = 0
        #: Brackets before the next value.
        self._open = 0
        self._first = True

    def flat(self, piece: bytes, *, last: bool) -> bytes:
        """Return the values of the next piece; raises DecodeError for rows of unlike depth."""
        if not self._depth:
            brackets = _BEFORE.match(piece)
            self._open = self._depth = brackets[0].count(b"[") if brackets else 0
            if not 1 <= self._depth <= _MOST_DEPTH:
                raise msgspec.DecodeError(f"an array of {self._depth} levels")
        if self._depth > 1:
            piece = _without_white(piece)
        inner = piece.lstrip(b"[" + _WHITE)
        flat = inner.rstrip(b"]" + _WHITE)
        closed = inner.count(b"]", len(flat))
        if piece.count(b"[", 0, len(piece) - len(inner)) != self._open or (
            closed != self._depth if last else closed >= self._depth
        ):
            raise msgspec.DecodeError("rows of unlike depth")
        if not flat and not (last and self._first):
            raise msgspec.DecodeError("a comma without a value")
        self._open, self._first = closed, False
        for level in range(self._depth - 1, 0, -1):
            flat = flat.replace(b"]" * level + b"," + b"[" * level, b",")
        if b"[" in flat or b"]" in flat:
            raise msgspec.DecodeError("rows of unlike depth")
        return flat


def _without_white(piece: bytes) -> bytes:
    piece = piece.replace(b", ", b",")
    short = piece.translate(None, _WHITE)
    if len(short) < len(piece) and _SPLIT_VALUE.search(piece):
        raise msgspec.DecodeError("values without a comma between them")
    return short


def _texts(text: Text, begin: int, end: int) -> Generator[list[str], None, None]:
    """Yield the texts of an array, nested or not, some at a time."""
    before, at = _brackets(_BEFORE, text, begin)
    depth = before.count(b"[")
    if not 1 <= depth <= _MOST_DEPTH:
        raise msgspec.DecodeError(f"an array of {depth} levels")
    found: list[str] = []
    while True:
        run = _RUN.match(text, at, min(end, at + _PIECE_BYTES)) if depth == 1 else None
        if run is not None:
            yield found + _TEXTS.decode(b"[" + run[0][:-1] + b"]")
            found, at = [], run.end()
            _, at = _brackets(_WHITES, text, at)
        stop = string_end(text, at) if text[at : at + 1] == b'"' else at
        found.append(_TEXT.decode(text[at:stop]))
        behind, at = _brackets(_BEHIND, text, stop)
        closed, more = behind.count(b"]"), at < end and text[at : at + 1] == b","
        if closed >= depth if more else closed != depth or at != end:
            raise msgspec.DecodeError("rows of unlike depth")
        if not more or len(found) >= _STEP:
            yield found
            found = []
        if not more:
            return
        before, at = _brackets(_BEFORE, text, at + 1)
        if before.count(b"[") != closed:
            raise msgspec.DecodeError("rows of unlike depth")


def _brackets(which: re.Pattern[bytes], text: Text, at: int) -> tuple[bytes, int]:
    found = which.match(text, at)
    return (found[0], found.end()) if found else (b"", at)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count


def _not_as_many(
    got: int, shape: tuple[int, ...], name: str, bound: str = ""
) -> InvalidRequestError:
    return InvalidRequestError(
        f"Expected {_count(shape)} values for shape {list(shape)}, got {bound}{got}"
        f" in data of input '{name}'"
    )


def _no_values(datatype: str, name: str, error: Exception) -> InvalidRequestError:
    return InvalidRequestError(
        f"Expected {datatype} values, got others in data of input '{name}': {error}"
    )
