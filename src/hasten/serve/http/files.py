"""Files sent by the kernel: from the page cache to the socket, through no memory of ours.

The event loop (uvloop) has no sendfile of its own, so a thread does it, on a second handle of the
same socket, while the connection sends nothing else.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.serve.http.exchange import HttpError

if TYPE_CHECKING:
    from hasten.serve.http.exchange import Exchange

__all__ = ["send_file"]

#: A client that takes nothing for so long is given up.
_STALL_S = 30.0
_CHUNK_BYTES = 1 << 22


async def send_file(exchange: Exchange, path: Path, content_type: str) -> None:
    """Answer with a file; raises HttpError where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HttpError(404, f"Expected a file to send, got {error.strerror}") from error
    try:
        size = os.fstat(file).st_size
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
        ).encode("latin-1")
        async with exchange.pipeline.taken_over(exchange, head) as own:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, _send, own, file, size)
    finally:
        os.close(file)


def _send(own: socket.socket, file: int, size: int) -> None:
    """Send the whole file, waiting for the client where it is slow; raises OSError if it goes."""
    writable = select.poll()
    writable.register(own, select.POLLOUT)
    offset = 0
    while offset < size:
        try:
            sent = os.sendfile(own.fileno(), file, offset, min(_CHUNK_BYTES, size - offset))
            if not sent:
                raise OSError("the file became shorter")
            offset += sent
        except BlockingIOError:
            if not writable.poll(_STALL_S * 1000):
                raise TimeoutError("the client takes nothing") from None
