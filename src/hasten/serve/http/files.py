"""Files sent by the kernel: from the page cache to the socket, through no memory of ours.

The event loop (uvloop) has no sendfile of its own, so a thread does it, on a second handle of the
same socket, while the connection sends nothing else. What may block on a disk is done in threads
that nothing else waits for.
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import socket
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.serve.http.exchange import HttpError
from hasten.serve.threads import in_thread

if TYPE_CHECKING:
    from hasten.serve.http.exchange import Exchange

__all__ = ["Files"]

#: Files that are sent at once; who comes later waits for one to be done.
_AT_ONCE = 8
#: A client that takes nothing for so long is given up.
_STALL_S = 30.0
_CHUNK_BYTES = 1 << 22


class Files:
    """Sends files, a few at a time."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def send(
        self, exchange: Exchange, path: Path, content_type: str, headers: tuple[str, ...] = ()
    ) -> None:
        """Answer with a file; raises HttpError where it cannot be read."""
        async with self._room:
            with await in_thread(partial(_opened, path), "open-file") as file:
                size = os.fstat(file.fileno()).st_size
                lines = (
                    "HTTP/1.1 200 OK",
                    f"Content-Type: {content_type}",
                    f"Content-Length: {size}",
                    "X-Content-Type-Options: nosniff",
                    *headers,
                )
                head = "\r\n".join((*lines, "\r\n")).encode("latin-1")
                async with exchange.pipeline.taken_over(exchange, head) as own:
                    await in_thread(partial(_send, own, file.fileno(), size), "send-file")


def _opened(path: Path) -> io.FileIO:
    """Open a regular file; what has no end, or waits for a writer, is refused."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise HttpError(404, f"Expected a file to send, got {error.strerror}") from error
    file = io.FileIO(handle)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise HttpError(404, "Expected a file to send, got something that is no regular file")
    return file


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
