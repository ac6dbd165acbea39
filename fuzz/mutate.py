"""Changes bytes at random: bits, numbers, pieces, words of the format."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

__all__ = ["mutated"]

_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 2**32 - 1)
_LONG_NUMBERS = (2**62, 2**63 - 1, 2**63, 2**64 - 1)
_MOST_CHANGES = 6
_LONGEST = 1 << 20


def mutated(draw: random.Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Return one of the seeds with up to six changes."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(1, _MOST_CHANGES)):
        change = draw.choice(_CHANGES)
        change(draw, data, seeds, words)
    return bytes(data[:_LONGEST])


def _flip(
    draw: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]
) -> None:
    del seeds, words
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _number(
    draw: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]
) -> None:
    del seeds, words
    width, kind = draw.choice([(1, "B"), (2, "H"), (4, "I"), (8, "Q")])
    if len(data) >= width:
        at = draw.randrange(len(data) - width + 1)
        value = draw.choice(_NUMBERS + (_LONG_NUMBERS if kind == "Q" else ()))
        order = draw.choice("<>")
        data[at : at + width] = struct.pack(order + kind, value % (1 << (8 * width)))


def _cut(
    draw: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]
) -> None:
    del seeds, words
    begin = draw.randint(0, len(data))
    end = min(len(data), begin + draw.choice([1, 2, 4, 16, 256, len(data)]))
    del data[begin:end]


def _repeat(
    draw: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]
) -> None:
    del seeds, words
    begin = draw.randint(0, len(data))
    piece = bytes(data[begin : begin + draw.choice([1, 2, 8, 64, 512])])
    data[begin:begin] = piece * draw.choice([1, 2, 16, 300])


def _splice(
    draw: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]
) -> None:
    del words
    other = draw.choice(seeds)
    begin = draw.randint(0, len(other))
    at = draw.randint(0, len(data))
    data[at : at + draw.choice([0, 4, 64])] = other[begin : begin + draw.choice([4, 64, 1024])]


def _word(
    draw: random.Random, data: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]
) -> None:
    del seeds
    if words:
        at = draw.randint(0, len(data))
        word = draw.choice(words)
        data[at : at + draw.choice([0, len(word)])] = word


_CHANGES = (_flip, _number, _cut, _repeat, _splice, _word, _word)
