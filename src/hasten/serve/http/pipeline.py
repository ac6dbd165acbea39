"""Answers of one connection: sent in the order of their requests, however they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from hasten.serve.engine.suspects import Origin
from hasten.serve.http.body import decompressed
from hasten.serve.http.exchange import Exchange, HttpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hasten.errors import HastenError
    from hasten.serve.http.body_memory import BodyMemory

__all__ = ["Pipeline"]

#: Requests of one connection that may wait for their answers before it is read on.
_PIPELINED = 64
#: How often a file that is to be sent looks whether it is its turn.
_TURN_S = 0.001
_CLOSE = (b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


class Pipeline:
    """Knows how HTTP/1.1 is answered, and nothing of how it is read or what is served."""

    __slots__ = (
        "_body_bytes",
        "_closing",
        "_full",
        "_handle",
        "_memory",
        "_pending",
        "origin",
        "paused",
        "since",
        "transport",
    )

    def __init__(
        self, handle: Callable[[Exchange], None], memory: BodyMemory, body_bytes: int
    ) -> None:
        self._handle = handle
        self._memory = memory
        self._body_bytes = body_bytes
        self._pending: deque[Exchange] = deque()
        self._closing = self._full = False
        #: Whether the client does not take what is sent to it.
        self.paused = False
        #: When the client last did its part; 0 while the server has the turn.
        self.since = monotonic()
        self.transport: asyncio.Transport
        #: This connection, as models know it.
        self.origin = Origin()

    def open(self, transport: asyncio.Transport) -> None:
        """Begin on a connection."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.origin = Origin(peer[0] if peer else "")

    # Requests come in.

    def begin(self, exchange: Exchange) -> None:
        """Have a request that is whole answered, now or later."""
        self._expect(exchange)
        try:
            if exchange.encoding:
                self._decompress(exchange)
        except HttpError as error:
            exchange.fail(error)
            return
        if exchange.encoding and not self._fits(exchange):
            exchange.fail(self._memory.refusal())
            return
        self._handle(exchange)

    def refuse(self, exchange: Exchange, error: HastenError) -> None:
        """Answer a request with an error, in its turn."""
        self._expect(exchange)
        exchange.fail(error)

    def ask_for_body(self) -> None:
        """Ask for the body that a client holds back, once the answers before it are sent."""
        waits = Exchange(self, b"", b"")
        self._pending.append(waits)
        self.answer(waits, [b"HTTP/1.1 100 Continue\r\n\r\n"])
        self.since = monotonic()

    def _expect(self, exchange: Exchange) -> None:
        self.since = 0.0
        self._pending.append(exchange)
        if len(self._pending) >= _PIPELINED:
            self._full = True
            self.transport.pause_reading()

    def _decompress(self, exchange: Exchange) -> None:
        exchange.body = decompressed(exchange.body, exchange.encoding, self._body_bytes)

    def _fits(self, exchange: Exchange) -> bool:
        """Count what decompressing made longer."""
        more = len(exchange.body) - exchange.held_bytes
        return more <= 0 or self._memory.take(exchange, more)

    # Answers go out.

    def answer(self, exchange: Exchange, parts: list[bytes | memoryview]) -> None:
        """Send an answer, or keep it until those before it are sent."""
        pending = self._pending
        if self._closing or not pending:
            return
        if len(parts) == len(pending) == 1 and exchange.keep_alive and pending[0] is exchange:
            pending.popleft()
            if exchange.held_bytes:
                self._memory.give_back(exchange)
            self.transport.write(parts[0])
            self.since = monotonic()
            return
        exchange.parts = parts
        while pending and pending[0].parts and not self._closing:
            first = pending.popleft()
            self._memory.give_back(first)
            self._send(first, first.parts)
        if not pending and not self._closing:
            self.since = monotonic()
        if self._full and len(pending) < _PIPELINED and not self._closing:
            self._full = False
            if not self.paused:
                self.transport.resume_reading()

    def _send(self, exchange: Exchange, parts: list[bytes | memoryview]) -> None:
        if not exchange.keep_alive:
            parts[0] = bytes(parts[0]).replace(*_CLOSE, 1)
        if len(parts) == 1:
            self.transport.write(parts[0])
        else:
            self.transport.writelines(parts)
        if not exchange.keep_alive:
            self.close()

    @contextlib.asynccontextmanager
    async def taken_over(self, exchange: Exchange, head: bytes) -> AsyncIterator[socket.socket]:
        """Lend the socket to send the rest of an answer past this class.

        Raises HttpError where the client has gone. One that goes meanwhile ends the connection.
        """
        while not self._closing and self._pending and self._pending[0] is not exchange:
            await asyncio.sleep(_TURN_S)
        if self._closing:
            raise HttpError(500, "The client has gone")
        self.transport.pause_reading()
        if not exchange.keep_alive:
            head = head.replace(*_CLOSE, 1)
        self.transport.write(head)
        while self.transport.get_write_buffer_size() and not self._closing:
            await asyncio.sleep(_TURN_S)
        own = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        try:
            with own:
                yield own
        except OSError:
            self._closing = True
            self.transport.abort()
            return
        if self._closing:
            return
        self._memory.give_back(self._pending.popleft())
        if not exchange.keep_alive:
            self.close()
            return
        self.transport.resume_reading()
        self.since = monotonic()
        if self._pending and self._pending[0].parts:
            self.answer(self._pending[0], self._pending[0].parts)

    def fail_last(self, error: HastenError) -> None:
        """Answer the last request with an error, and end; at once where it was answered before."""
        if self._pending and not self._pending[-1].parts:
            exchange = self._pending[-1]
            exchange.keep_alive = False
            exchange.fail(error)
        else:
            self.transport.abort()

    # The client takes its time, or goes.

    def pause(self) -> None:
        """Stop reading from a client that does not read."""
        self.paused = True
        self.since = monotonic()
        self.transport.pause_reading()

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        self.since = 0.0 if self._pending else monotonic()
        if not self._full:
            self.transport.resume_reading()

    def lose(self) -> None:
        """Cancel what the client will not see."""
        self._closing = True
        for exchange in self._pending:
            if exchange.waits is not None:
                model, request = exchange.waits
                model.cancel(request)
            exchange.body = b""
            self._memory.give_back(exchange)
        self._pending.clear()

    def close(self) -> None:
        """Close once what was written is sent."""
        self._closing = True
        self.transport.close()
