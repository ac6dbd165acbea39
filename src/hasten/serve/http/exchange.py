"""One request and its answer on a connection, and how answers that are not tensors are written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from hasten.errors import (
    ExecutionLimitError,
    ExpiredError,
    HastenError,
    InputError,
    InvalidRequestError,
    OverloadedError,
    RefusedError,
    UnknownModelError,
)
from hasten.printable import printable, printable_json

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel
    from hasten.serve.engine.request import Request
    from hasten.serve.http.head import Head
    from hasten.serve.http.pipeline import Pipeline

__all__ = [
    "AuthorizationError",
    "Exchange",
    "HttpError",
    "MethodError",
    "error_message",
    "message",
    "status_of",
]

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
_STATUS: tuple[tuple[type[HastenError], int], ...] = (
    (UnknownModelError, 404),
    (InvalidRequestError, 400),
    (InputError, 400),
    (RefusedError, 400),
    (OverloadedError, 503),
    (ExpiredError, 503),
    (ExecutionLimitError, 504),
)


class HttpError(HastenError):
    """A request that is answered with this status; ``closes`` ends the connection after that."""

    def __init__(self, status: int, message: str, *, closes: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.closes = closes


class AuthorizationError(HttpError):
    """A request without the token that it needs."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message)


class MethodError(HttpError):
    """A method that the path does not take."""

    def __init__(self, allowed: str, got: str) -> None:
        super().__init__(405, f"Expected {allowed}, got {got}")
        self.allowed = allowed


class Exchange:
    """A request whose answer may come later. Answers leave in the order of the requests."""

    __slots__ = (
        "answer_bytes",
        "body",
        "connection",
        "head",
        "header_bytes",
        "held_bytes",
        "method",
        "parts",
        "pipeline",
        "url",
        "waits",
    )

    def __init__(self, pipeline: Pipeline, head: Head) -> None:
        self.pipeline = pipeline
        self.head = head
        self.method = head.method
        self.url = head.url
        self.body: bytes | memoryview = b""
        self.header_bytes = head.header_bytes
        #: What its body, and the answer that is to come, count in the memory of all.
        self.held_bytes = self.answer_bytes = 0
        #: What the answer says of the connection, if anything: ``close`` ends it.
        self.connection = head.connection
        #: The answer, while it waits for those before it.
        self.parts: list[bytes | memoryview] = []
        #: The request the engine works on for it, and the model to cancel it with.
        self.waits: tuple[ServedModel, Request] | None = None

    def answer(self, parts: list[bytes | memoryview]) -> None:
        """Send the whole message as soon as those before it are sent."""
        if self.method == b"HEAD":
            head, end, _ = bytes(parts[0]).partition(b"\r\n\r\n")
            parts = [head + end]
        self.pipeline.answer(self, parts)

    def answer_json(self, document: Any, status: int = 200) -> None:
        """Answer with a document."""
        body = msgspec.json.encode(document)
        if (
            not body.isascii() or b"\x7f" in body
        ):  # names of files stand in the index, and may act on a terminal
            body = printable_json(body.decode()).encode()
        self.answer([message(status, body, "application/json")])

    def fail(self, error: HastenError) -> None:
        """Answer with an error, in the form that Triton's clients read."""
        self.answer([error_message(error)])


def message(status: int, body: bytes, content_type: str, *headers: str) -> bytes:
    """Return a whole HTTP/1.1 message."""
    lines = (
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join((*lines, "\r\n")).encode("latin-1") + body


def status_of(error: HastenError) -> int:
    """Return the HTTP status of an error: 500 for those that are not the client's."""
    if isinstance(error, HttpError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_message(error: HastenError) -> bytes:
    """Return the message of an error: ``{"error": ...}``, and when to try again."""
    headers = []
    if isinstance(error, OverloadedError):
        headers.append(f"Retry-After: {max(1, math.ceil(error.retry_after_s))}")
    if isinstance(error, MethodError):
        headers.append(f"Allow: {error.allowed}")
    if isinstance(error, AuthorizationError):
        headers.append("WWW-Authenticate: Bearer")
    body = msgspec.json.encode({"error": printable(" ".join(str(error).split()))})
    return message(status_of(error), body, "application/json", *headers)
