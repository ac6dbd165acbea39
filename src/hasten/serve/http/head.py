"""What the head of a request says: a function of its bytes alone, so what it said may be kept.

Whatever two readers could understand in two ways is refused and ends the connection: where one
request ends decides where the next begins, and a proxy before this server has to see the same.

Source: RFC 9112 (HTTP/1.1), sections 2.2, 3, 5, 6 and 9; RFC 9110, sections 5.6.2 and 10.1.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from hasten.serve.http.exchange import HttpError

__all__ = ["NO_HEAD", "Head", "parse_head", "require_beginning"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n"
_FIRST = re.compile(rb"([A-Z]{1,24}) ([\x21\x22\x24-\x7e\x80-\xff]++) (HTTP/[0-9]\.[0-9])\r\n")
_FIELDS = re.compile(rb"(?:" + _FIELD + rb")*+\r\n")
_ONE_FIELD = re.compile(_FIELD)
#: What a first line may begin with, as far as it has come.
_BEGINNING = re.compile(rb"\r?\Z|[A-Z]{1,24}+(?: |\Z)")
#: A target that names the server before the path, as clients of a proxy write it.
_ABSOLUTE = re.compile(rb"https?://[^/?]++(.*)", re.IGNORECASE | re.DOTALL)
#: More digits than any size has that could be met.
_DIGITS = 18
_SHOWN = 60


class Head(NamedTuple):
    """The head of a request.

    ``connection`` is what the answer has to say of the connection, if anything: ``close`` or, to
    a client of HTTP/1.0 that asks for it, ``keep-alive``. One that is ``plain`` has no effect
    beyond what it says, so that it may be known again by its bytes. ``fields`` are its lines.
    """

    method: bytes = b""
    url: bytes = b""
    body_bytes: int = 0
    header_bytes: int | None = None
    encoding: bytes = b""
    chunked: bool = False
    expects: bool = False
    connection: bytes = b""
    plain: bool = False
    fields: tuple[tuple[bytes, bytes], ...] = ()

    def field(self, name: bytes) -> bytes | None:
        """Return the value of a field by its name in lower case; None where there is none."""
        return next((value for known, value in self.fields if known == name), None)


NO_HEAD = Head()


def parse_head(raw: bytes) -> Head:
    r"""Return what a head says, its empty line included; raises HttpError for any other.

    >>> parse_head(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n").url
    b'/v2'
    """
    first = _first_line(raw)
    method, target, version = first.groups()
    if version not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise HttpError(505, f"Expected HTTP/1.1, got {version.decode()}", closes=True)
    if method == b"CONNECT":
        raise HttpError(501, "Expected a method of this server, got CONNECT", closes=True)
    if not _FIELDS.fullmatch(raw, first.end()):
        raise _not_a_field(raw[first.end() :])
    fields = []
    for line in raw[first.end() : -2].splitlines():
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    said = _Said(newer=version == b"HTTP/1.1")
    for name, value in fields:
        take = _TAKES.get(name)
        if take is not None:
            take(said, value)
    said.require_one_meaning()
    return Head(
        method,
        _path(target),
        said.length or 0,
        said.header_bytes,
        said.encoding,
        said.chunked,
        said.expects and (said.chunked or bool(said.length)),
        said.connection,
        said.plain and not said.connection,
        tuple(fields),
    )


def require_beginning(part: bytes, scanned: int) -> None:
    """Raise HttpError where what has come of a head cannot become one.

    ``part`` was looked at up to ``scanned`` before.
    """
    new = part[scanned - part.endswith(b"\r", 0, scanned) :]
    if not _BEGINNING.match(part[:32]) or new.count(b"\n") != new.count(b"\r\n"):
        raise _not_http(part)
    end = part.find(b"\r\n") + 1
    if end and scanned <= end:
        _first_line(part)


def _first_line(raw: bytes) -> re.Match[bytes]:
    first = _FIRST.match(raw)
    if first is None:
        raise _not_http(raw)
    return first


def _not_http(raw: bytes) -> HttpError:
    line = raw.partition(b"\r\n")[0][:_SHOWN]
    return HttpError(400, f"Expected a request of HTTP/1.1, got {line!r}", closes=True)


def _not_a_field(lines: bytes) -> HttpError:
    at = 0
    while (field := _ONE_FIELD.match(lines, at)) is not None:
        at = field.end()
    line = lines[at:].partition(b"\r\n")[0][:_SHOWN]
    return HttpError(400, f"Expected a line 'Name: value' in the head, got {line!r}", closes=True)


def _path(target: bytes) -> bytes:
    if target.startswith(b"/") or target == b"*":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise HttpError(400, f"Expected a path, got {target[:_SHOWN]!r}", closes=True)
    path = absolute[1]
    return path if path.startswith(b"/") else b"/" + path


def _number(name: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > _DIGITS:
        raise HttpError(400, f"Expected {name} in bytes, got {value[:_SHOWN]!r}", closes=True)
    return int(value)


class _Said:
    """Reads header lines, one after another; those that say nothing of the message pass by."""

    __slots__ = (
        "chunked",
        "closing",
        "connection",
        "encoding",
        "expects",
        "header_bytes",
        "hosts",
        "length",
        "newer",
        "plain",
    )

    def __init__(self, *, newer: bool) -> None:
        #: Whether this is HTTP/1.1, which stays unless told otherwise, and has chunks.
        self.newer = self.plain = newer
        self.length: int | None = None
        self.chunked = self.expects = self.closing = False
        self.encoding = b""
        self.header_bytes: int | None = None
        self.connection = b"" if newer else b"close"
        self.hosts = 0

    def require_one_meaning(self) -> None:
        """Raise HttpError where lines contradict each other."""
        if self.chunked and self.length is not None:
            raise HttpError(400, "Expected Content-Length or chunks, got both", closes=True)
        if self.hosts > 1 or (self.newer and not self.hosts):
            raise HttpError(400, f"Expected one line Host, got {self.hosts}", closes=True)

    def _host(self, value: bytes) -> None:
        del value
        self.hosts += 1

    def _content_length(self, value: bytes) -> None:
        if self.length is not None:
            raise HttpError(400, "Expected one Content-Length, got two", closes=True)
        self.length = _number("Content-Length", value)

    def _header_bytes(self, value: bytes) -> None:
        if self.header_bytes is not None:
            raise HttpError(
                400, "Expected one Inference-Header-Content-Length, got two", closes=True
            )
        self.header_bytes = _number("Inference-Header-Content-Length", value)

    def _transfer_encoding(self, value: bytes) -> None:
        self.plain = False
        if not self.newer or self.chunked:
            raise HttpError(
                400, "Expected one Transfer-Encoding, and that in HTTP/1.1", closes=True
            )
        if value.lower() != b"chunked":
            shown = value[:_SHOWN]
            raise HttpError(501, f"Expected Transfer-Encoding chunked, got {shown!r}", closes=True)
        self.chunked = True

    def _content_encoding(self, value: bytes) -> None:
        if self.encoding:
            raise HttpError(400, "Expected one Content-Encoding, got two", closes=True)
        self.encoding = value.lower()

    def _expect(self, value: bytes) -> None:
        self.plain = False
        if not self.newer:
            return
        if value.lower() != b"100-continue":
            shown = value[:_SHOWN]
            raise HttpError(417, f"Expected Expect 100-continue, got {shown!r}", closes=True)
        self.expects = True

    def _connection(self, value: bytes) -> None:
        words = {word.strip(b" \t") for word in value.lower().split(b",")}
        if words != {b"keep-alive"}:
            self.plain = False
        if b"close" in words:
            self.connection, self.closing = b"close", True
        elif not self.newer and b"keep-alive" in words and not self.closing:
            self.connection = b"keep-alive"

    def _unusual(self, value: bytes) -> None:
        """An offer of another protocol is passed over; the body counts as any other."""
        del value
        self.plain = False


_TAKES: dict[bytes, Callable[[_Said, bytes], None]] = {
    b"host": _Said._host,
    b"content-length": _Said._content_length,
    b"inference-header-content-length": _Said._header_bytes,
    b"transfer-encoding": _Said._transfer_encoding,
    b"content-encoding": _Said._content_encoding,
    b"expect": _Said._expect,
    b"connection": _Said._connection,
    b"upgrade": _Said._unusual,
    b"te": _Said._unusual,
    b"trailer": _Said._unusual,
}
