"""One client's connection: bytes in, requests out.

A body of any size is received once: what comes with the head, in the buffer that all connections
share, is cut out of it; the rest is read by the kernel straight into memory of its own.

A client sends the same head again and again. What one said is kept, and the next with the same
bytes costs one look-up: it says the same, because nothing else decides what a head says.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

from hasten.errors import HastenError
from hasten.serve.engine.suspects import Origin
from hasten.serve.http.body import room
from hasten.serve.http.body_memory import UNCOUNTED_BYTES
from hasten.serve.http.chunks import ChunkedBody
from hasten.serve.http.exchange import Exchange, HttpError
from hasten.serve.http.head import NO_HEAD, Head, parse_head, require_beginning
from hasten.serve.http.pipeline import Pipeline

if TYPE_CHECKING:
    from hasten.serve.http.shared import Shared

__all__ = ["Connection"]

#: Heads that are kept, and the longest that is.
_KEPT = 1024
_LONGEST_KEPT = 2048
_END = b"\r\n\r\n"
_END_BYTES = len(_END)
#: Requests that are begun before other connections have their turn.
_TURN = 64
#: What is counted of a body ahead of its coming: at first little, then as much as has come, up to
#: a bound. Memory of 4 MB and more comes in pages of 2 MB.
_FIRST_STEP_BYTES, _STEP_BYTES, _LARGE_STEP_BYTES = 1 << 12, 1 << 16, 1 << 21
_LARGE_BYTES = 1 << 22


class Connection(asyncio.BufferedProtocol):
    """Reads HTTP/1.1; what it reads goes into a pipeline, which answers."""

    __slots__ = (
        "_body",
        "_chunks",
        "_counted",
        "_deaf",
        "_exchange",
        "_filled",
        "_going_on",
        "_passing",
        "_pipeline",
        "_reading",
        "_receiving",
        "_rest",
        "_scanned",
        "_shared",
        "arrived_before",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._pipeline = Pipeline(
            shared.handle, shared.memory, shared.slices, shared.limits.body_bytes, self._steer
        )
        self._exchange = Exchange(self._pipeline, NO_HEAD)
        #: Whether a request has begun and is not whole.
        self._receiving = False
        #: A body that the kernel fills: how far it has come, and how much of it is counted.
        self._body: memoryview | None = None
        self._filled = self._counted = 0
        self._chunks: ChunkedBody | None = None
        #: Bytes of a body that is thrown away.
        self._passing = 0
        #: What was received and not taken yet, and how far the end of a head was looked for.
        self._rest = b""
        self._scanned = 0
        #: Whether what comes is not looked at any more.
        self._deaf = False
        self._reading, self._going_on = True, False
        #: What the server had seen of this request when it looked last.
        self.arrived_before = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, where there is room for one more."""
        self._pipeline.transport = cast("asyncio.Transport", transport)
        peername = transport.get_extra_info("peername")
        address = peername[0] if peername else ""
        self._pipeline.origin = Origin(address)
        self._pipeline.peer = self._shared.join(self, address)

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel what the client will not see."""
        del error
        self._deaf = True
        self._pipeline.lose()
        self._shared.memory.waiting.pop(self, None)
        self._shared.memory.give_back(self._exchange)  # it may not have been whole
        self._shared.leave(self, self._pipeline.peer)
        self._body, self._chunks, self._rest = None, None, b""

    def eof_received(self) -> bool:
        """Close: whoever hangs up looks like this, and what nobody waits for need not be run."""
        return False

    def pause_writing(self) -> None:
        """Begin nothing more for a client that does not read."""
        self._pipeline.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._pipeline.resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the kernel is to write."""
        del sizehint
        if self._body is not None:
            return self._body[self._filled : self._counted]
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what was received."""
        if self._deaf:
            return
        if self._body is not None:
            self._filled += nbytes
            if self._filled == self._counted:
                self._body_came()
            return
        data = bytes(self._shared.buffer[:nbytes])
        if self._rest:
            self._take(self._rest + data)
        elif not self._takes_whole(data):
            self._take(data)

    def _takes_whole(self, data: bytes) -> bool:
        """Begin a request that came alone and whole, with a head that is known, as most do."""
        end = data.find(_END) + _END_BYTES
        head = self._shared.heads.get(data[:end])
        if head is None or not head.plain or end + head.body_bytes != len(data):
            return False
        pipeline = self._pipeline
        if self._receiving or self._chunks is not None or self._passing or pipeline.busy:
            return False
        if head.body_bytes > UNCOUNTED_BYTES:
            return False
        exchange = Exchange(pipeline, head)
        exchange.body = data[end:]
        try:
            pipeline.begin(exchange)
        except HastenError as error:
            self._reject(error)
        except Exception as error:  # noqa: BLE001 - the client is told, and the log
            self._break(error)
        return True

    # Requests.

    def _take(self, data: bytes) -> None:
        self._rest = b""
        try:
            self._requests(data)
        except HastenError as error:
            self._reject(error)
        except Exception as error:  # noqa: BLE001 - the client is told, and the log
            self._break(error)

    def _break(self, error: Exception) -> None:
        """End the connection after a fault of the server's own."""
        self._deaf = True
        context = {"message": "a request could not be handled", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
        self._pipeline.fail_last(HttpError(500, "The server failed; its log says why"))

    def _requests(self, data: bytes) -> None:
        """Begin the requests in what was received, as many as one turn has."""
        heads, pipeline = self._shared.heads, self._pipeline
        for _ in range(_TURN):
            if self._deaf or not data:
                return
            if pipeline.busy:
                break
            if self._chunks is not None or self._passing:
                used = self._more_of_body(data)
                data = data[used:]
                if not used:
                    self._rest = data
                    return
                if self._chunks is not None:
                    break  # that was a turn's worth of chunks
                continue
            end = data.find(_END) + _END_BYTES
            head = heads.get(data[:end])
            if head is None or self._scanned:
                data, head = self._new_head(data)
                if head is None:
                    self._rest = data
                    return
                end = data.find(_END) + _END_BYTES
            exchange = Exchange(pipeline, head)
            stop = end + head.body_bytes
            if not head.plain or stop > len(data) or head.body_bytes > UNCOUNTED_BYTES:
                data = data[self._begin_body(exchange, data, end) :]
            else:
                exchange.body = data[end:stop]
                data = data[stop:]
                pipeline.begin(exchange)
        self._rest = data
        if data and not self._deaf and not pipeline.busy:
            self._going_on = True
            asyncio.get_running_loop().call_soon(self._go_on)
            self._steer()

    def _go_on(self) -> None:
        """Take what was left over when the turn was over."""
        self._going_on = False
        if not (self._deaf or self._pipeline.busy):
            self._take(self._rest)
        self._steer(looked=True)

    def _new_head(self, data: bytes) -> tuple[bytes, Head | None]:
        """Return the head at the start of what follows empty lines, and that; None if unended."""
        while data.startswith(b"\r\n"):
            data, self._scanned = data[2:], 0
        end = data.find(_END, max(0, self._scanned - _END_BYTES)) + _END_BYTES
        whole, limits = end >= _END_BYTES, self._shared.limits
        if (end if whole else len(data)) > limits.head_bytes:
            most = limits.head_bytes
            raise HttpError(431, f"Expected a head of at most {most} bytes, got more", closes=True)
        if not whole:
            require_beginning(data, self._scanned)
            if data and not self._receiving:
                self._pipeline.since = monotonic()
            self._scanned, self._receiving = len(data), bool(data)
            return data, None
        self._scanned, self._receiving = 0, False
        raw = data[:end]
        heads = self._shared.heads
        head = heads.get(raw)
        if head is None:
            head = parse_head(raw)
            self._shared.browsers.require_own(head.method, head.fields)
        if head.body_bytes > limits.body_bytes:
            raise HttpError(
                413,
                f"Expected a body of at most {limits.body_bytes} bytes, got {head.body_bytes}",
                closes=True,
            )
        if head.plain and end <= _LONGEST_KEPT:
            if len(heads) >= _KEPT:
                heads.clear()
            heads[raw] = head
        return data, head

    def _begin_body(self, exchange: Exchange, data: bytes, end: int) -> int:
        """Take what has come of a body, and make room for the rest; returns where that stops."""
        head, memory, pipeline = exchange.head, self._shared.memory, self._pipeline
        size = head.body_bytes
        admitted = size <= UNCOUNTED_BYTES or memory.admits(exchange, size)
        if head.expects:
            if not admitted:  # nothing says whether the body will be sent all the same
                error = memory.refusal()
                exchange.connection, self._deaf = b"close", True
                pipeline.refuse(exchange, error)
                return len(data)
            pipeline.ask_for_body()
        stop = end + size
        if admitted and not head.chunked and stop <= len(data):
            if size > UNCOUNTED_BYTES:
                memory.count(exchange, size)
            exchange.body = data[end:stop]
            self._begin(exchange)
            return stop
        self._exchange, self._receiving, self.arrived_before = exchange, True, 0
        pipeline.since = monotonic()
        if head.chunked:
            self._chunks = ChunkedBody(self._shared.limits.body_bytes)
        elif not admitted:
            self._passing = size
        else:
            text = head.header_bytes is None and not head.encoding
            self._body, self._filled, self._counted = room(size, text=text), 0, 0
            here = data[end:]
            self._count_body(len(here))
            self._body[: len(here)] = here
            self._filled = len(here)
            return len(data)
        return end

    def _begin(self, exchange: Exchange) -> None:
        self._deaf = exchange.connection == b"close"
        self._pipeline.begin(exchange)

    # Bodies.

    def _step_to(self, came: int) -> int:
        """Return up to where a body is counted of which so much has come."""
        size = self._exchange.head.body_bytes
        step = min(max(came, _FIRST_STEP_BYTES), _STEP_BYTES)
        return min(size, came + (step if size < _LARGE_BYTES else _LARGE_STEP_BYTES))

    def _count_body(self, came: int) -> None:
        counted = self._step_to(came)
        if self._exchange.head.body_bytes > UNCOUNTED_BYTES:
            self._shared.memory.count(self._exchange, counted - self._counted)
        self._counted = counted

    def _body_came(self) -> None:
        """Begin the request, or make room for what is still to come of it."""
        body, memory, exchange = self._body, self._shared.memory, self._exchange
        if body is None:
            return
        size = len(body)
        if self._filled == size:
            self._body, self._receiving = None, False
            exchange.body = body
            self._begin(exchange)
            return
        step = self._step_to(self._filled) - self._counted
        if size <= UNCOUNTED_BYTES or memory.admits(exchange, step):
            self._count_body(self._filled)
            if memory.waiting.pop(self, None) is not None:
                self._pipeline.since = monotonic()
        elif self not in memory.waiting:
            memory.waiting[self] = self._body_came
            self._pipeline.since = 0.0
        if size >= _LARGE_BYTES and not self._going_on:
            # A quick client would be read from for a tenth of a second without a pause.
            self._going_on = True
            asyncio.get_running_loop().call_soon(self._go_on)
        self._steer()

    def _more_of_body(self, data: bytes) -> int:
        """Take more of a body that is in chunks or passes by; returns how much was taken."""
        exchange, memory, chunks = self._exchange, self._shared.memory, self._chunks
        if chunks is None:
            used = min(self._passing, len(data))
            self._passing -= used
            if not self._passing:
                self._refuse(exchange)
            return used
        used = chunks.feed(data)
        more = len(chunks.data) - exchange.held_bytes
        if more > UNCOUNTED_BYTES and not memory.take(exchange, more):
            chunks.kept, chunks.data = False, bytearray()
            memory.give_back(exchange)
        if chunks.whole:
            self._chunks = None
            if chunks.kept:
                self._receiving = False
                exchange.body = memoryview(chunks.data)
                self._begin(exchange)
            else:
                self._refuse(exchange)
        return used

    def _refuse(self, exchange: Exchange) -> None:
        """Answer a request whose body has passed by."""
        self._receiving = False
        self._deaf = exchange.connection == b"close"
        self._pipeline.refuse(exchange, self._shared.memory.refusal())

    def _reject(self, error: HastenError) -> None:
        """Answer what cannot be read as a request, and end: where the next begins is not known."""
        if self._deaf:
            return
        self._deaf = True
        self._shared.memory.waiting.pop(self, None)
        self._shared.memory.give_back(self._exchange)
        self._body, self._chunks, self._receiving, self._rest = None, None, False, b""
        self._steer()
        refused = Exchange(self._pipeline, NO_HEAD)
        refused.connection = b"close"
        self._pipeline.refuse(refused, error)

    def _steer(self, *, looked: bool = False) -> None:
        """Read, or leave what comes to the kernel; ``looked`` at what is here already."""
        waits = self in self._shared.memory.waiting
        reading = not (self._deaf or self._pipeline.busy or self._going_on or waits)
        if reading and self._rest and not (self._reading or looked):
            # What is here already comes before what the kernel has.
            self._going_on, reading = True, False
            asyncio.get_running_loop().call_soon(self._go_on)
        transport = self._pipeline.transport
        if reading != self._reading and not transport.is_closing():
            self._reading = reading
            (transport.resume_reading if reading else transport.pause_reading)()

    # What the server calls.

    @property
    def since(self) -> float:
        """When the client last did its part; 0 while the server has the turn."""
        return self._pipeline.since

    @property
    def transferring(self) -> bool:
        """Whether a request has begun and is not whole, or an answer is not taken."""
        return self._receiving or self._pipeline.paused

    @property
    def arrived(self) -> int:
        """Bytes that have come of the request that is being received."""
        if self._body is not None:
            return self._filled
        return self._chunks.length if self._chunks is not None else len(self._rest)

    def brisk(self, least: int) -> bool:
        """Return whether so many bytes of a request have come since the server looked last."""
        return self._receiving and self.arrived - self.arrived_before >= least

    @property
    def held_bytes(self) -> int:
        """What the requests and answers of this connection hold."""
        return self._pipeline.held_bytes

    def expire(self, error: HastenError) -> None:
        """End the connection of a client that is too slow."""
        if self._pipeline.paused:
            self._pipeline.transport.abort()
        elif not self._receiving:
            self.close()
        else:
            self._reject(error)

    def drop(self) -> None:
        """End the connection at once: its descriptor is needed."""
        self._deaf = True
        self._pipeline.closing = True
        self._pipeline.transport.abort()

    def close(self) -> None:
        """Close once what was written is sent."""
        self._deaf = True
        self._pipeline.close()
