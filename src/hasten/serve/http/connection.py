"""One client's connection: bytes in, requests out.

A body of any size is received once: small ones come with the head in the buffer that all
connections share, large ones are read by the kernel straight into memory of their own.

A client sends the same head again and again. What the parser understood of one is kept, and the
next request with the same bytes before its body costs one look-up.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

import httptools

from hasten.errors import HastenError
from hasten.serve.http.body import room
from hasten.serve.http.body_memory import UNCOUNTED_BYTES, BodyMemory
from hasten.serve.http.exchange import Exchange, HttpError
from hasten.serve.http.head import HeadLines, KnownHead
from hasten.serve.http.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from hasten.serve.http.server import Limits

__all__ = ["Connection", "Shared"]

#: Bodies above this are received straight into their own memory.
_LARGE_BYTES = 65_536
#: Heads that are kept, and the longest that is.
_KEPT = 1024
_LONGEST_KEPT = 2048
_END = b"\r\n\r\n"
_VERSIONS = frozenset({"1.1", "1.0"})


class Shared:
    """What the connections of one server share: limits, memory, and where requests go."""

    def __init__(
        self, limits: Limits, memory: BodyMemory, handle: Callable[[Exchange], None]
    ) -> None:
        self.limits = limits
        self.memory = memory
        self.handle = handle
        self.connections: set[Connection] = set()
        #: Set when the last of them is lost.
        self.left = asyncio.Event()
        self.heads: dict[bytes, KnownHead] = {}
        # Filled and read within one call each: the loop reads one socket at a time.
        self.buffer = memoryview(bytearray(limits.buffer_bytes))


class Connection(asyncio.BufferedProtocol):
    """Reads HTTP/1.1; what it reads goes into a pipeline, which answers."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_chunks",
        "_deaf",
        "_exchange",
        "_filled",
        "_head_bytes",
        "_lines",
        "_no_room",
        "_parser",
        "_pipeline",
        "_raw_head",
        "_receiving",
        "_shared",
        "_unread",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._pipeline = Pipeline(shared.handle, shared.memory, shared.limits.body_bytes)
        self._parser = httptools.HttpRequestParser(self)
        self._exchange = Exchange(self._pipeline, b"", b"")
        self._receiving = False
        self._body: memoryview | None = None
        self._chunks: list[bytes] = []
        self._body_bytes = self._filled = self._head_bytes = 0
        self._lines = HeadLines()
        #: Whether what comes is not looked at any more, and whether this body is thrown away.
        self._deaf = self._no_room = False
        #: Bytes that the parser was given and has told nothing of yet.
        self._unread = 0
        self._raw_head = b""

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._pipeline.open(cast("asyncio.Transport", transport))
        self._shared.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel what the client will not see."""
        del error
        self._shared.connections.discard(self)
        if not self._shared.connections:
            self._shared.left.set()
        self._deaf = True
        self._pipeline.lose()
        self._shared.memory.give_back(self._exchange)  # it may not have been whole
        self._body = None
        self._chunks.clear()

    def eof_received(self) -> bool:
        """Close: whoever hangs up looks like this, and what nobody waits for need not be run."""
        return False

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read."""
        self._pipeline.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._pipeline.resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the kernel is to write."""
        del sizehint
        if self._body is not None:
            return self._body[self._filled :]
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what was received."""
        if self._deaf:
            return
        if self._body is not None:
            self._filled += nbytes
            if self._filled == len(self._body):
                self._body_complete()
            return
        data = bytes(self._shared.buffer[:nbytes])
        if not self._receiving:
            data = self._known(data)
            if not data:
                return
        self._parse(data)

    def _known(self, data: bytes) -> bytes:
        """Begin the requests whose heads were parsed before; return what is left for the parser."""
        heads, pipeline = self._shared.heads, self._pipeline
        while data and not self._deaf:
            end = data.find(_END) + len(_END)
            if end < len(_END):
                self._raw_head = b""
                return data
            head = heads.get(data[:end])
            if head is None:
                self._raw_head = data[:end] if end <= _LONGEST_KEPT else b""
                return data
            exchange = Exchange(pipeline, head.method, head.url)
            exchange.header_bytes = head.header_bytes
            exchange.encoding = head.encoding
            size = head.body_bytes
            if size > UNCOUNTED_BYTES and not self._shared.memory.take(exchange, size):
                self._raw_head = b""
                return data  # the parser throws the body away as it comes
            stop = end + size
            if stop > len(data):
                self._exchange, self._receiving, pipeline.since = exchange, True, monotonic()
                self._body = exchange.body = room(size)
                self._filled = len(data) - end
                self._body[: self._filled] = data[end:]
                return b""
            exchange.body = data[end:stop]
            data = data[stop:]
            pipeline.begin(exchange)
        return b""

    def _parse(self, data: bytes) -> None:
        self._unread += len(data)
        try:
            while data:
                data = self._fed(data)
            if self._receiving and self._exchange.body:
                self._receive_large()
            elif self._unread > self._shared.limits.head_bytes:
                self._reject(self._too_long())
        except httptools.HttpParserCallbackError as error:
            self._failed(error.__context__)
        except httptools.HttpParserError as error:
            self._reject(HttpError(400, f"Expected HTTP/1.1, got bytes that are not: {error}"))

    def _fed(self, data: bytes) -> bytes:
        """Feed the parser; return what follows a request that offered another protocol."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)  # we stay with this one
            return data[upgrade.args[0] :]
        return b""

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._body_bytes = self._head_bytes = 0
        self._lines = HeadLines()
        self._exchange = Exchange(self._pipeline, b"", b"")
        self._receiving, self._no_room = True, False
        self._pipeline.since = monotonic()

    def on_url(self, url: bytes) -> None:
        """Keep the target; it may come in pieces."""
        exchange = self._exchange
        exchange.url += url
        self._head_bytes += len(url)
        if self._head_bytes > self._shared.limits.head_bytes:
            raise self._too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what matters."""
        self._unread = 0
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self._shared.limits.head_bytes:
            raise self._too_long()
        if self._exchange.method:
            return  # it stands behind the body, where it says nothing of it any more
        self._lines.read(name, value)

    def _too_long(self) -> HttpError:
        most = self._shared.limits.head_bytes
        return HttpError(431, f"Expected a head of at most {most} bytes, got more", closes=True)

    def on_headers_complete(self) -> None:
        """Refuse a body that is too long before it is sent, and make room for a large one."""
        exchange, parser, lines = self._exchange, self._parser, self._lines
        exchange.header_bytes, exchange.encoding = lines.header_bytes, lines.encoding
        length = lines.body_bytes
        self._unread = 0
        exchange.method = parser.get_method()
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise HttpError(505, f"Expected HTTP/1.1, got {version}", closes=True)
        if not parser.should_keep_alive():
            exchange.keep_alive = False
        if lines.chunked and length >= 0:
            raise HttpError(400, "Expected Content-Length or chunks, got both", closes=True)
        limit = self._shared.limits.body_bytes
        if length > limit:
            raise HttpError(
                413, f"Expected a body of at most {limit} bytes, got {length}", closes=True
            )
        self._keep_head(exchange)
        if length > UNCOUNTED_BYTES and not self._shared.memory.take(exchange, length):
            self._no_room = True
        if lines.expects and version == "1.1":
            if self._no_room:  # nothing says whether the body will be sent all the same
                raise self._shared.memory.refusal()
            self._pipeline.ask_for_body()
        if length > _LARGE_BYTES and not self._no_room:
            exchange.body = room(length)

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._unread = 0
        exchange = self._exchange
        begin = self._body_bytes
        self._body_bytes += len(data)
        if self._body_bytes > self._shared.limits.body_bytes:
            limit = self._shared.limits.body_bytes
            raise HttpError(413, f"Expected a body of at most {limit} bytes", closes=True)
        if self._no_room:
            return
        if isinstance(exchange.body, memoryview):
            exchange.body[begin : self._body_bytes] = data
        elif self._lines.chunked and not self._shared.memory.take(exchange, len(data)):
            self._no_room = True
            self._chunks.clear()
            self._shared.memory.give_back(exchange)
        else:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        """A request is whole; what follows one that closes is not looked at."""
        exchange = self._exchange
        if self._deaf:
            return
        self._receiving = False
        chunks = self._chunks
        if chunks:
            exchange.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._chunks = []
        self._deaf = not exchange.keep_alive
        if self._no_room:
            self._pipeline.refuse(exchange, self._shared.memory.refusal())
        else:
            self._pipeline.begin(exchange)

    # What this class calls.

    def _receive_large(self) -> None:
        """Let the kernel write the rest of the body into its place."""
        body = self._exchange.body
        if isinstance(body, memoryview):
            self._body, self._filled = body, self._body_bytes
            # The parser expects the body that it will not see.
            self._parser = httptools.HttpRequestParser(self)

    def _body_complete(self) -> None:
        self._body, self._receiving = None, False
        self._deaf = not self._exchange.keep_alive
        self._pipeline.begin(self._exchange)

    def _keep_head(self, exchange: Exchange) -> None:
        """Remember what the head of a plain request said."""
        raw, heads = self._raw_head, self._shared.heads
        self._raw_head = b""
        # Were a line to end otherwise, the head would not end where it was looked for.
        plain = raw[:1].isalpha() and raw.count(b"\n") == raw.count(b"\r\n")
        if plain and exchange.keep_alive and not self._lines.unusual:
            if len(heads) >= _KEPT:
                heads.clear()
            length = max(0, self._lines.body_bytes)
            heads[raw] = KnownHead(
                exchange.method, exchange.url, length, exchange.header_bytes, exchange.encoding
            )

    def _reject(self, error: HastenError) -> None:
        """Answer what cannot be read as a request, and end: where the next begins is not known."""
        if self._deaf:
            return
        self._deaf = True
        exchange = self._exchange if self._receiving else Exchange(self._pipeline, b"", b"")
        self._body, self._receiving = None, False
        exchange.keep_alive = False
        self._pipeline.transport.pause_reading()
        self._pipeline.refuse(exchange, error)

    def _failed(self, cause: BaseException | None) -> None:
        """Answer what went wrong in a callback; what nobody expected is told to the loop too."""
        if isinstance(cause, HastenError):
            self._reject(cause)
            return
        context = {"message": "a request could not be handled", "exception": cause}
        asyncio.get_running_loop().call_exception_handler(context)
        self._pipeline.fail_last(HttpError(500, "The server failed; its log says why"))

    # What the server calls.

    @property
    def since(self) -> float:
        """When the client last did its part; 0 while the server has the turn."""
        return self._pipeline.since

    @property
    def transferring(self) -> bool:
        """Whether a request has begun and is not whole, or an answer is not taken."""
        return self._receiving or self._pipeline.paused

    def expire(self, error: HttpError) -> None:
        """End the connection of a client that is too slow."""
        if self._pipeline.paused:
            self._pipeline.transport.abort()
        elif not self._receiving:
            self.close()
        else:
            self._reject(error)

    def close(self) -> None:
        """Close once what was written is sent."""
        self._deaf = True
        self._pipeline.close()
