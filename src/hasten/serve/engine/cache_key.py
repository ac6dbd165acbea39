"""The key of a response: a 256-bit digest over everything that decides the answer.

Each part is preceded by its length or count, so no two requests that differ lead to the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
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
_COUNTS = struct.Struct("<qq")


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
            self._start.update(_text(part))

    def key(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> bytes:
        """Return the 32 bytes of a request's key.

        ``inputs`` may come in any order. ``outputs`` are those asked for, in the order of the
        answer. Arrays of objects hold bytes or str; raises TypeError for others.
        """
        digest = self._start.copy()
        # Few calls with much in them: for a small request a call costs more than its bytes.
        digest.update(b"".join((_COUNTS.pack(len(inputs), len(outputs)), *map(_text, outputs))))
        for name in sorted(inputs) if len(inputs) > 1 else inputs:
            array = inputs[name]
            digest.update(_text(name) + _layout(array.dtype, array.shape))
            if array.dtype.hasobject:
                digest.update(b"".join(map(_object, array.ravel().tolist())))
            elif array.size:
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.digest()


@lru_cache(maxsize=1024)
def _text(text: str) -> bytes:
    return _counted(text.encode("utf-8", "surrogatepass"))


def _counted(content: bytes) -> bytes:
    return _COUNT.pack(len(content)) + content


@lru_cache(maxsize=1024)
def _layout(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """Return the dtype and shape: with them, the number of bytes or objects is known too."""
    # The name tells bfloat16 from other types of two bytes, the other the order of the bytes.
    kind = _counted(f"{dtype.name} {dtype.str}".encode())
    return kind + struct.pack(f"<{1 + len(shape)}q", len(shape), *shape)


def _object(value: object) -> bytes:
    if isinstance(value, bytes):
        return b"b" + _counted(value)
    if isinstance(value, str):
        return b"s" + _counted(value.encode("utf-8", "surrogatepass"))
    raise TypeError(f"Expected bytes or str in an array, got {type(value).__name__}")
