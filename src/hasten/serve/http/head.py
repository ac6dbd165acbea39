"""What the head of a request says of its body."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hasten.serve.http.exchange import HttpError

__all__ = ["HeadLines", "KnownHead"]


class KnownHead(NamedTuple):
    """What a head said that was parsed before; ``fields`` are its lines, names in lower case."""

    method: bytes
    url: bytes
    body_bytes: int
    header_bytes: int | None
    encoding: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()

    def field(self, name: bytes) -> bytes | None:
        """Return the value of a field by its name in lower case; None where there is none."""
        return next((value for known, value in self.fields if known == name), None)


class HeadLines:
    """Reads header lines, one after another; those that say nothing of the body pass by.

    ``body_bytes`` is -1 where no length was given. A head that is ``unusual`` has an effect of its
    own, so another of the same bytes has to be parsed again.
    """

    __slots__ = (
        "body_bytes",
        "chunked",
        "encoding",
        "expects",
        "fields",
        "header_bytes",
        "unusual",
    )

    def __init__(self) -> None:
        self.body_bytes = -1
        self.fields: list[tuple[bytes, bytes]] = []
        self.chunked = self.expects = self.unusual = False
        self.encoding = b""
        self.header_bytes: int | None = None

    def read(self, name: bytes, value: bytes) -> None:
        """Take in a line; raises HttpError for what cannot be served."""
        lower, value = name.lower(), value.strip()
        self.fields.append((lower, value))
        take = _LINES.get(lower)
        if take is not None:
            take(self, value)

    def _content_length(self, value: bytes) -> None:
        if not value.isdigit() or self.body_bytes >= 0:
            raise HttpError(400, f"Expected one Content-Length, got {value!r}", closes=True)
        self.body_bytes = int(value)

    def _header_bytes(self, value: bytes) -> None:
        if not value.isdigit():
            raise HttpError(
                400, f"Expected Inference-Header-Content-Length in bytes, got {value!r}"
            )
        self.header_bytes = int(value)

    def _transfer_encoding(self, value: bytes) -> None:
        if value.lower() != b"chunked" or self.chunked:
            raise HttpError(501, f"Expected Transfer-Encoding chunked, got {value!r}", closes=True)
        self.chunked = self.unusual = True

    def _content_encoding(self, value: bytes) -> None:
        self.encoding = value.lower()

    def _expect(self, value: bytes) -> None:
        self.unusual = True
        self.expects = value.lower() == b"100-continue"


_LINES: dict[bytes, Callable[[HeadLines, bytes], None]] = {
    b"content-length": HeadLines._content_length,
    b"inference-header-content-length": HeadLines._header_bytes,
    b"transfer-encoding": HeadLines._transfer_encoding,
    b"content-encoding": HeadLines._content_encoding,
    b"expect": HeadLines._expect,
}
