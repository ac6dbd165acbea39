"""What a listener lets clients do beyond asking models: load, unload, and take files away.

As with Triton all of it is off unless the server was started with it.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hasten.errors import OptionError
from hasten.serve.http.exchange import AuthorizationError, HttpError

if TYPE_CHECKING:
    from pathlib import Path

    from hasten.serve.http.exchange import Exchange

__all__ = ["Control", "is_loopback", "read_token"]

#: What a page may send anywhere without asking first: no program needs these for JSON.
_FORMS = frozenset({b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"})
_LEAST_TOKEN_BYTES = 16
_MOST_TOKEN_BYTES = 4096


@dataclass(frozen=True)
class Control:
    """What one listener allows.

    ``loads`` are loading and unloading, ``files`` the files of models. ``token`` is asked for by
    both, where there is one. ``elsewhere`` says that another listener is there for it.
    """

    loads: bool = False
    files: bool = False
    token: bytes = field(default=b"", repr=False)
    elsewhere: bool = False

    def require_loads(self, exchange: Exchange) -> None:
        """Raise HttpError unless this request may load and unload."""
        self._require_here()
        if not self.loads:
            # The sentence is Triton's. Its 503 would have clients and proxies try again.
            raise HttpError(
                400,
                "explicit model load / unload is not allowed"
                " (hasten serve --model-control-mode explicit allows it)",
            )
        self._require_token(exchange)
        kind = exchange.head.field(b"content-type") or b""
        if kind.partition(b";")[0].strip().lower() in _FORMS:
            shown = kind.decode("latin-1")
            raise HttpError(415, f"Expected Content-Type application/json or none, got {shown!r}")

    def require_files(self, exchange: Exchange) -> None:
        """Raise HttpError unless this request may take a model's file."""
        self._require_here()
        if not self.files:
            raise HttpError(
                403, "The files of models are not served (hasten serve --serve-files serves them)"
            )
        self._require_token(exchange)

    def _require_here(self) -> None:
        if self.elsewhere:
            raise HttpError(403, "Models are controlled through the server's other port")

    def _require_token(self, exchange: Exchange) -> None:
        if not self.token:
            return
        said = exchange.head.field(b"authorization") or b""
        scheme, _, token = said.partition(b" ")
        right = hmac.compare_digest(token.strip(), self.token)
        if scheme.lower() != b"bearer" or not right:
            raise AuthorizationError("Expected the token of this server, as Authorization: Bearer")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("localhost"), is_loopback("::")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def read_token(path: Path, where: str) -> bytes:
    """Return the token in a file, less the space around it; raises OptionError."""
    expected = f"a file with a token of {_LEAST_TOKEN_BYTES} visible ASCII characters at least"
    try:
        with path.open("rb") as file:
            token = file.read(_MOST_TOKEN_BYTES + 1).strip()
    except (OSError, ValueError) as error:
        raise OptionError(expected=expected, got=str(error), where=where) from None
    visible = all(0x21 <= byte <= 0x7E for byte in token)  # noqa: PLR2004
    if not _LEAST_TOKEN_BYTES <= len(token) <= _MOST_TOKEN_BYTES or not visible:
        raise OptionError(
            expected=expected,
            got=f"{len(token)} bytes" if visible else "other characters",
            where=where,
        )
    return token
