"""The key of a response: a 256-bit digest over everything that decides the answer.

Each part is preceded by its length or count, so no two requests that differ lead to the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["KeyScope", "fastest_hash"]

_KEY_BYTES = 32
#: Candidates that give 256 bits and are in every Python. SHA-256 is the faster one on processors
#: with instructions for it, BLAKE2b on others.
_HASHES: dict[str, Callable[[], Any]] = {
    "sha256": hashlib.sha256,
    "blake2b": lambda: hashlib.blake2b(digest_size=_KEY_BYTES),
}
_TRIAL_BYTES = 1 << 16
_TRIALS = 7
_COUNT = struct.Struct("<q")


@cache
def fastest_hash() -> str:
    """Return the name of the hash that is faster here: timed on first use, in about a millisecond.

    Keys are for one process only, as the choice may fall otherwise in another.
    """
    payload = bytes(_TRIAL_BYTES)
    return min(_HASHES, key=lambda name: min(_timed(name, payload) for _ in range(_TRIALS)))


def _timed(name: str, payload: bytes) -> int:
    begin = time.perf_counter_ns()
    digest = _HASHES[name]()
    digest.update(payload)
    digest.digest()
    return time.perf_counter_ns() - begin


class KeyScope:
    """Keys of one version of one model, whose identity is hashed once."""

    def __init__(
        self, model: str, version: int, artifact_digest: str, runtime: str, *, hash_name: str = ""
    ) -> None:
        self._start: _Hash = _HASHES[hash_name or fastest_hash()]()
        for part in (model, str(version), artifact_digest, runtime):
            _text(self._start, part)

    def key(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> bytes:
        """Return the 32 bytes of a request's key.

        ``inputs`` may come in any order. ``outputs`` are those asked for, in the order of the
        answer. Arrays of objects hold bytes or str; raises TypeError for others.
        """
        digest = self._start.copy()
        digest.update(_COUNT.pack(len(inputs)))
        for name in sorted(inputs):
            _text(digest, name)
            _array(digest, inputs[name])
        digest.update(_COUNT.pack(len(outputs)))
        for name in outputs:
            _text(digest, name)
        return digest.digest()


def _text(digest: _Hash, text: str) -> None:
    _bytes(digest, text.encode("utf-8", "surrogatepass"))


def _bytes(digest: _Hash, content: bytes) -> None:
    digest.update(_COUNT.pack(len(content)))
    digest.update(content)


def _array(digest: _Hash, array: np.ndarray) -> None:
    dtype = array.dtype
    # The name tells bfloat16 from other types of two bytes, the other the order of the bytes.
    _text(digest, f"{dtype.name} {dtype.str}")
    digest.update(struct.pack(f"<{1 + array.ndim}q", array.ndim, *array.shape))
    if dtype.hasobject:
        _objects(digest, array.ravel().tolist())
        return
    digest.update(_COUNT.pack(array.nbytes))
    if array.size:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _objects(digest: _Hash, values: Iterable[object]) -> None:
    for value in values:
        if isinstance(value, bytes):
            digest.update(b"b")
            _bytes(digest, value)
        elif isinstance(value, str):
            digest.update(b"s")
            _text(digest, value)
        else:
            raise TypeError(f"Expected bytes or str in an array, got {type(value).__name__}")
