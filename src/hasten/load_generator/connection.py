"""One keep-alive connection with at most one request in flight, read with as little as will do.

Not aware of when requests are sent, nor of what answers mean.
"""

from __future__ import annotations

import socket

import httptools

__all__ = ["Connection", "Head"]

_RECEIVE_BYTES = 256 * 1024
_OK = 200


class Head:
    """The head of a good answer as it was last parsed.

    An answer that begins with the same bytes has the same status and length, so it need not be
    parsed again. It is shared by the connections to one server.
    """

    __slots__ = ("json_bytes", "text", "whole")

    def __init__(self) -> None:
        self.text = b"\0"  # what no answer begins with
        self.whole = -1
        self.json_bytes: int | None = None


class Connection:
    """A socket and what is known of the answer that is coming in.

    ``advance`` returns the status once the answer is whole.
    """

    __slots__ = (
        "body",
        "busy",
        "head",
        "head_bytes",
        "intended_ns",
        "json_bytes",
        "length",
        "parser",
        "receive",
        "request",
        "rest",
        "send",
        "sent_ns",
        "sock",
        "status",
        "usable",
        "whole",
    )

    def __init__(self, sock: socket.socket, head: Head) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.send = sock.send
        self.receive = sock.recv
        self.head = head
        self.busy = False
        self.request = 0
        self.intended_ns = 0
        self.sent_ns = 0
        #: What could not be sent at once.
        self.rest: memoryview | None = None
        self.body = b""
        self.json_bytes: int | None = None
        self.usable = True
        self._forget()

    def _forget(self) -> None:
        self.parser: httptools.HttpResponseParser | None = None
        self.status = 0
        self.length = -1
        self.head_bytes = 0
        self.whole = False

    def begin(self, request: bytes) -> bool:
        """Send a request; False where a part is still to be sent with ``resume``.

        Raises OSError where the connection is gone.
        """
        try:
            sent = self.send(request)
        except BlockingIOError:
            sent = 0
        if sent == len(request):
            return True
        self.rest = memoryview(request)[sent:]
        return False

    def resume(self) -> bool:
        """Send what is left; True when that was all. Raises OSError as ``begin`` does."""
        if self.rest is not None:
            try:
                self.rest = self.rest[self.send(self.rest) :]
            except BlockingIOError:
                return False
            if not self.rest:
                self.rest = None
        return self.rest is None

    def advance(self) -> int:
        """Read what has come; returns the status of an answer that is whole, else 0.

        Raises ConnectionError where the server has closed, and httptools.HttpParserError for what
        is no HTTP.
        """
        try:
            data = self.receive(_RECEIVE_BYTES)
        except BlockingIOError:
            return 0
        head = self.head
        if len(data) == head.whole and self.parser is None and data.startswith(head.text):
            self.body, self.json_bytes = data, head.json_bytes
            self.head_bytes = len(head.text)
            return _OK
        if not data:
            raise ConnectionResetError("closed before the answer was whole")
        return self._parse(data)

    def _parse(self, data: bytes) -> int:
        first = self.parser is None
        if self.parser is None:
            self._forget()
            self.parser = httptools.HttpResponseParser(self)
            self.body, self.json_bytes = b"", None
        self.parser.feed_data(data)
        if not self.whole:
            return 0
        status, self.parser = self.status, None
        self.head_bytes = 0
        if first and status == _OK and self.length == len(self.body) and self.usable:
            self.head.text = data[: len(data) - self.length]
            self.head.whole = len(data)
            self.head.json_bytes = self.json_bytes
        return status

    def answer(self) -> bytes:
        """Return the body of the last answer."""
        return self.body[self.head_bytes :]

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take note of the headers that matter."""
        name = name.lower()
        if name == b"content-length":
            self.length = int(value)
        elif name == b"inference-header-content-length" and value.isdigit():
            self.json_bytes = int(value)

    def on_headers_complete(self) -> None:
        """Take the status."""
        assert self.parser is not None  # noqa: S101 - it is what calls
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self.body = self.body + body if self.body else body

    def on_message_complete(self) -> None:
        """Take note that the answer is whole, and of whether another may follow."""
        assert self.parser is not None  # noqa: S101
        self.whole = True
        self.usable = self.parser.should_keep_alive()
