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
from hasten.serve.http.body import Inflation
from hasten.serve.http.exchange import Exchange, HttpError
from hasten.serve.http.head import NO_HEAD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hasten.errors import HastenError
    from hasten.serve.http.body_memory import BodyMemory, Peer
    from hasten.serve.http.slices import Slices

__all__ = ["Pipeline"]

#: Requests of one connection that may wait for their answers before it is read on, and what their
#: bodies and answers may hold.
_PIPELINED = 64
_MOST_BYTES, _MOST_SHARE = 8 << 20, 4
#: How often a file that is to be sent looks whether it is its turn.
_TURN_S = 0.001
#: What is written in one turn of the loop: of more the system would copy all that a quick reader
#: takes, a tenth of a second at a time.
_WRITTEN_BYTES = 1 << 20
_END = b"\r\n\r\n"


class Pipeline:
    """Knows how HTTP/1.1 is answered, and nothing of how it is read or what is served.

    While it is ``busy`` no further request is to begin; ``on_turn`` is told when that changes.
    """

    __slots__ = (
        "_body_bytes",
        "_flow",
        "_flowing",
        "_handle",
        "_lent",
        "_memory",
        "_most_bytes",
        "_pending",
        "_unread",
        "busy",
        "closing",
        "held_bytes",
        "on_turn",
        "origin",
        "paused",
        "peer",
        "since",
        "slices",
        "transport",
    )

    def __init__(
        self,
        handle: Callable[[Exchange], None],
        memory: BodyMemory,
        slices: Slices,
        body_bytes: int,
        on_turn: Callable[[], None],
    ) -> None:
        self._handle = handle
        self._memory = memory
        self._most_bytes = min(_MOST_BYTES, memory.limit_bytes // _MOST_SHARE)
        self._body_bytes = body_bytes
        self._pending: deque[Exchange] = deque()
        #: What is still to be written of a long answer, and whose it is.
        self._flow: deque[memoryview] = deque()
        self._flowing: Exchange | None = None
        self.slices = slices
        self.on_turn = on_turn
        self.busy = self.closing = self._lent = False
        #: Whether the client does not take what is sent to it.
        self.paused = False
        #: When the client last did its part; 0 while the server has the turn.
        self.since = monotonic()
        #: What requests hold that were not answered, and what was answered and is not taken.
        self.held_bytes = 0
        self._unread = Exchange(self, NO_HEAD)
        self.peer: Peer
        self.transport: asyncio.Transport
        #: This connection, as models know it.
        self.origin = Origin()

    # Requests come in.

    def begin(self, exchange: Exchange) -> None:
        """Have a request that is whole answered, now or later."""
        self.since = 0.0
        self._pending.append(exchange)
        if exchange.head.encoding:
            self._inflate(exchange)
        else:
            self._handle(exchange)
        if len(self._pending) >= _PIPELINED or self.held_bytes >= self._most_bytes:
            self.judge()

    def refuse(self, exchange: Exchange, error: HastenError) -> None:
        """Answer a request with an error, in its turn."""
        self.since = 0.0
        self._pending.append(exchange)
        exchange.fail(error)

    def ask_for_body(self) -> None:
        """Ask for the body that a client holds back, once the answers before it are sent."""
        waits = Exchange(self, NO_HEAD)
        self._pending.append(waits)
        self.answer(waits, [b"HTTP/1.1 100 Continue\r\n\r\n"])
        self.since = monotonic()

    def judge(self) -> None:
        """See whether another request may begin."""
        busy = (
            self.paused
            or self._lent
            or self.closing
            or len(self._pending) >= _PIPELINED
            or self.held_bytes >= self._most_bytes
        )
        if busy != self.busy:
            self.busy = busy
            self.on_turn()

    def expect_answer(self, exchange: Exchange, size: int) -> None:
        """Count an answer that is going to be large; raises OverloadedError without room for it."""
        if not self._memory.expect_answer(exchange, size):
            raise self._memory.answer_refusal()

    def expect_more(self, exchange: Exchange, size: int) -> None:
        """Count what a request will hold beyond its body; raises OverloadedError without room."""
        if not self._memory.take(exchange, size):
            raise self._memory.refusal()

    def _inflate(self, exchange: Exchange) -> None:
        encoding = exchange.head.encoding
        if encoding == b"identity":
            self._handle(exchange)
            return
        try:
            inflation = Inflation(exchange.body, encoding, self._body_bytes)
            plain = inflation.first()
        except HttpError as error:
            exchange.fail(error)
            return
        if plain is None:
            self.slices.start(exchange, self._inflated(exchange, inflation))
        elif self._memory.take(exchange, len(plain)):
            exchange.body = plain
            self._handle(exchange)
        else:
            exchange.fail(self._memory.refusal())

    async def _inflated(self, exchange: Exchange, inflation: Inflation) -> None:
        def count(size: int) -> None:
            if self.closing:
                raise HttpError(500, "The client has gone")
            if not self._memory.take(exchange, size):
                raise self._memory.refusal()

        exchange.body = await inflation.rest(count)
        if not self.closing:
            self._handle(exchange)

    # Answers go out.

    def answer(self, exchange: Exchange, parts: list[bytes | memoryview]) -> None:
        """Send an answer, or keep it until those before it are sent."""
        pending = self._pending
        if self.closing or not pending:
            return
        alone = len(parts) == len(pending) == 1 and pending[0] is exchange
        if alone and not exchange.connection and self._flowing is None:
            pending.popleft()
            self.transport.write(parts[0])
            self.since = monotonic()
            if exchange.held_bytes or exchange.answer_bytes:
                self._sent(exchange)
            return
        exchange.parts = parts
        self._send_what_is_due()

    def _send_what_is_due(self) -> None:
        """Send answers up to the first that is not there yet, or that takes several turns."""
        pending = self._pending
        while pending and pending[0].parts and not self.closing and self._flowing is None:
            first = pending.popleft()
            self._send(first, first.parts)
            first.parts = []
            if self._flowing is None:
                self._sent(first)
        if not pending and not self.closing and self._flowing is None:
            self.since = monotonic()
        if self.busy:
            self.judge()

    def _send(self, exchange: Exchange, parts: list[bytes | memoryview]) -> None:
        if exchange.connection:
            parts[0] = _told(bytes(parts[0]), exchange.connection)
        if sum(map(len, parts)) > _WRITTEN_BYTES:
            self._flowing = exchange
            for part in parts:
                view = memoryview(part)
                starts = range(0, len(view), _WRITTEN_BYTES)
                self._flow.extend(view[at : at + _WRITTEN_BYTES] for at in starts)
            self._flow_on()
            return
        if len(parts) == 1:
            self.transport.write(parts[0])
        else:
            self.transport.writelines(parts)
        if exchange.connection == b"close":
            self.close()

    def _flow_on(self) -> None:
        """Write the next piece of a long answer, unless the client has to take others first."""
        exchange = self._flowing
        if exchange is None or self.paused:
            return
        self.transport.write(self._flow.popleft())
        if self._flow:
            asyncio.get_running_loop().call_soon(self._flow_on)
            return
        self._flowing = None
        self._sent(exchange)
        if self.closing or exchange.connection == b"close":
            self.close()
        else:
            self._send_what_is_due()

    def _sent(self, exchange: Exchange) -> None:
        """Count nothing for a request any more, but what its client does not take of the answer."""
        self._memory.give_back(exchange)
        if self.paused:
            self._count_unread()
        if self.busy:
            self.judge()

    def _count_unread(self) -> None:
        self._memory.give_back(self._unread)
        self._memory.count_answer(self._unread, self.transport.get_write_buffer_size())

    @contextlib.asynccontextmanager
    async def taken_over(self, exchange: Exchange, head: bytes) -> AsyncIterator[socket.socket]:
        """Lend the socket to send the rest of an answer past this class.

        Raises HttpError where the client has gone. One that goes meanwhile ends the connection.
        """
        while not self.closing and self._pending and self._pending[0] is not exchange:
            await asyncio.sleep(_TURN_S)
        if self.closing:
            raise HttpError(500, "The client has gone")
        self._lent = True
        self.judge()
        if exchange.connection:
            head = _told(head, exchange.connection)
        self.transport.write(head)
        while self.transport.get_write_buffer_size() and not self.closing:
            await asyncio.sleep(_TURN_S)
        own = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        try:
            with own:
                yield own
        except OSError:
            self.closing = True
            self.transport.abort()
            return
        if self.closing:
            return
        self._lent = False
        self._memory.give_back(self._pending.popleft())
        if exchange.connection == b"close":
            self.close()
            return
        self.since = monotonic()
        if self._pending and self._pending[0].parts:
            self.answer(self._pending[0], self._pending[0].parts)
        self.judge()

    def fail_last(self, error: HastenError) -> None:
        """Answer the last request with an error, and end; at once where it was answered before."""
        if self._pending and not self._pending[-1].parts:
            exchange = self._pending[-1]
            exchange.connection = b"close"
            exchange.fail(error)
        else:
            self.transport.abort()

    # The client takes its time, or goes.

    def pause(self) -> None:
        """Begin nothing more for a client that does not read."""
        self.paused = True
        self.since = monotonic()
        self._count_unread()
        self.judge()

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        self.since = 0.0 if self._pending else monotonic()
        self._memory.give_back(self._unread)
        self._flow_on()
        self.judge()

    def lose(self) -> None:
        """Cancel what the client will not see."""
        self.closing = True
        for exchange in self._pending:
            if exchange.waits is not None:
                model, request = exchange.waits
                model.cancel(request)
            exchange.body = b""
            self._memory.give_back(exchange)
        self._pending.clear()
        self._flow.clear()
        if self._flowing is not None:
            self._memory.give_back(self._flowing)
            self._flowing = None
        self._memory.give_back(self._unread)

    def close(self) -> None:
        """Close once what was written, and what is still to be written of an answer, is sent."""
        self.closing = True
        if self._flowing is None:
            self.transport.close()


def _told(message: bytes, connection: bytes) -> bytes:
    """Return a message whose head says what becomes of the connection."""
    return message.replace(_END, b"\r\nConnection: " + connection + _END, 1)
