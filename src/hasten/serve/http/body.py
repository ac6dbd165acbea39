"""The body of a request: room for it, and what is in it once it is decompressed."""

from __future__ import annotations

import zlib

import numpy as np

from hasten.serve.http.exchange import HttpError

__all__ = ["decompressed", "room"]

#: What zlib calls the formats; identity is none.
_WINDOWS = {b"gzip": 31, b"deflate": 15, b"identity": 0}


def room(size: int) -> memoryview:
    """Return memory for a body; what no client fills takes none of the machine's."""
    return np.empty(size, np.uint8).data


def decompressed(body: bytes | memoryview, encoding: bytes, limit: int) -> bytes:
    """Return what gzip or deflate made smaller; raises HttpError above ``limit`` bytes."""
    if encoding not in _WINDOWS:
        raise HttpError(415, f"Expected Content-Encoding gzip or deflate, got {encoding!r}")
    if encoding == b"identity":
        return bytes(body)
    decoder = zlib.decompressobj(_WINDOWS[encoding])
    name = encoding.decode()
    try:
        plain = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise HttpError(400, f"Expected a {name} body, got other bytes: {error}") from error
    if len(plain) > limit:
        raise HttpError(413, f"Expected a body of at most {limit} bytes when decompressed")
    if not decoder.eof or decoder.unused_data:
        raise HttpError(400, f"Expected one whole {name} body, got another")
    return plain
