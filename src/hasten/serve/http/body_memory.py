"""How much memory bodies, and answers that nobody takes, hold; and how much they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hasten.serve.http.connection import Connection
    from hasten.serve.http.exchange import Exchange

__all__ = ["UNCOUNTED_BYTES", "BodyMemory", "Peer"]

#: A shorter body weighs less than the objects that any request comes with, and is not counted.
UNCOUNTED_BYTES = 1024
#: What one peer leaves to all others, as a part of the limit.
_OTHERS_SHARE = 8


class Peer:
    """The connections from one address, and what they hold together."""

    __slots__ = ("address", "connections", "held_bytes")

    def __init__(self, address: str) -> None:
        self.address = address
        self.connections = 0
        self.held_bytes = 0


class BodyMemory:
    """One budget for bodies as far as they have come, and one for answers until they are taken.

    A body is admitted where all that it promises would fit now, and counted as it comes. Where
    those that were admitted together do not fit, who lacks room waits for it; the server ends the
    slow, then the youngest of those that wait, so that the oldest can end. Called by the event
    loop's thread alone.
    """

    __slots__ = (
        "_peer_limit_bytes",
        "answer_bytes",
        "held_bytes",
        "limit_bytes",
        "refused",
        "short",
        "waiting",
    )

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._peer_limit_bytes = limit_bytes - limit_bytes // _OTHERS_SHARE
        self.held_bytes = 0
        #: What answers hold that are being computed, or are not taken.
        self.answer_bytes = 0
        #: Requests that were told that there is no room for them.
        self.refused = 0
        #: Whether room was lacking since this was last unset.
        self.short = False
        #: What to call, oldest first, when there may be room again.
        self.waiting: dict[Connection, Callable[[], None]] = {}

    def admits(self, exchange: Exchange, size: int) -> bool:
        """Return whether there is room for so many bytes more of a request."""
        peer = exchange.pipeline.peer
        fits = self.held_bytes + size <= self.limit_bytes and (
            # One body that is the only one may be as long as any may be.
            not peer.held_bytes or peer.held_bytes + size <= self._peer_limit_bytes
        )
        self.short |= not fits
        return fits

    def take(self, exchange: Exchange, size: int) -> bool:
        """Count so many bytes more for a request; False where there is no room for them."""
        if not self.admits(exchange, size):
            return False
        self.count(exchange, size)
        return True

    def count(self, exchange: Exchange, size: int) -> None:
        """Count bytes that are held already."""
        self.held_bytes += size
        exchange.held_bytes += size
        exchange.pipeline.held_bytes += size
        exchange.pipeline.peer.held_bytes += size

    def expect_answer(self, exchange: Exchange, size: int) -> bool:
        """Count an answer that is to come; False where there is no room for it.

        One that is the only one may be as large as it is.
        """
        if self.answer_bytes and self.answer_bytes + size > self.limit_bytes:
            self.short = True
            return False
        self.count_answer(exchange, size)
        return True

    def count_answer(self, exchange: Exchange, size: int) -> None:
        """Count an answer that is held already."""
        self.answer_bytes += size
        exchange.answer_bytes += size
        exchange.pipeline.held_bytes += size

    def give_back(self, exchange: Exchange) -> None:
        """Count nothing for a request any more."""
        size, exchange.answer_bytes = exchange.answer_bytes, 0
        self.answer_bytes -= size
        exchange.pipeline.held_bytes -= size
        size, exchange.held_bytes = exchange.held_bytes, 0
        self.held_bytes -= size
        exchange.pipeline.held_bytes -= size
        exchange.pipeline.peer.held_bytes -= size
        if self.waiting and size:
            for call in list(self.waiting.values()):
                call()

    def refusal(self) -> OverloadedError:
        """Return, and count, what is answered where there is no room."""
        return self._refusal("the body", "bodies of other requests", self.held_bytes)

    def answer_refusal(self) -> OverloadedError:
        """Return, and count, what is answered where there is no room for the answer."""
        return self._refusal("the answer", "other answers", self.answer_bytes)

    def _refusal(self, what: str, others: str, held: int) -> OverloadedError:
        self.refused += 1
        return OverloadedError(
            f"Expected room for {what}, got none: {others} hold {held} of {self.limit_bytes} bytes",
            retry_after_s=1.0,
        )
