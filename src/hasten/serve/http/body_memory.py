"""How much memory the bodies of all connections take, and may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.errors import OverloadedError

if TYPE_CHECKING:
    from hasten.serve.http.exchange import Exchange

__all__ = ["UNCOUNTED_BYTES", "BodyMemory"]

#: A shorter body weighs less than the objects that any request comes with, and is not counted.
UNCOUNTED_BYTES = 1024


class BodyMemory:
    """One budget for bodies that are being received or wait for their answers.

    A body is counted whole once its head is read, so that one that was begun can always be ended.
    Called by the event loop's thread alone.
    """

    __slots__ = ("held_bytes", "limit_bytes", "refused")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        #: Requests that were told that there is no room for their bodies.
        self.refused = 0

    def take(self, exchange: Exchange, size: int) -> bool:
        """Count so many bytes more for a request; False where there is no room for them."""
        if self.held_bytes + size > self.limit_bytes:
            return False
        self.held_bytes += size
        exchange.held_bytes += size
        return True

    def give_back(self, exchange: Exchange) -> None:
        """Count nothing for a request any more."""
        self.held_bytes -= exchange.held_bytes
        exchange.held_bytes = 0

    def refusal(self) -> OverloadedError:
        """Return, and count, what is answered where there is no room."""
        self.refused += 1
        return OverloadedError(
            f"Expected room for the body, got none: bodies of other requests hold"
            f" {self.held_bytes} of {self.limit_bytes} bytes",
            retry_after_s=1.0,
        )
