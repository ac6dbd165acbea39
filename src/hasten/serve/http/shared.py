"""What the connections of one server share: limits, memory, heads, and how many they may be."""

from __future__ import annotations

import asyncio
from heapq import nsmallest
from time import monotonic
from typing import TYPE_CHECKING

from hasten.serve.http.body_memory import Peer
from hasten.serve.http.exchange import HttpError
from hasten.serve.http.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from hasten.serve.http.body_memory import BodyMemory
    from hasten.serve.http.browser import Browsers
    from hasten.serve.http.connection import Connection
    from hasten.serve.http.exchange import Exchange
    from hasten.serve.http.head import Head
    from hasten.serve.http.limits import Limits

__all__ = ["Shared"]

#: While memory or connections are short, who sends a request is to send so much between two looks
#: once it has begun for so long; a slower one is ended.
_LEAST_BYTES = 16_384
_SLOW_S = 3.0
#: Of so many connections one is dropped in advance, so that dropping costs each little.
_DROPPED_PART = 256


class Shared:
    """Where connections join and leave; called by the event loop's thread alone."""

    def __init__(
        self,
        limits: Limits,
        memory: BodyMemory,
        handle: Callable[[Exchange], None],
        browsers: Browsers,
    ) -> None:
        self.limits = limits
        self.memory = memory
        self.handle = handle
        self.browsers = browsers
        self.slices = Slices()
        self.connections: set[Connection] = set()
        #: Set when the last of them is lost.
        self.left = asyncio.Event()
        self.heads: dict[bytes, Head] = {}
        # Filled and read within one call each: the loop reads one socket at a time.
        self.buffer = memoryview(bytearray(limits.buffer_bytes))
        self._peers: dict[str, Peer] = {}

    def join(self, connection: Connection, address: str) -> Peer:
        """Take in a connection; another goes for it where there are as many as there may be."""
        if len(self.connections) >= self.limits.connections:
            self._make_room()
        self.connections.add(connection)
        peer = self._peers.setdefault(address, Peer(address))
        peer.connections += 1
        if len(self.connections) > self.limits.connections:  # all others are being answered
            connection.drop()
        return peer

    def leave(self, connection: Connection, peer: Peer) -> None:
        """Forget a connection that is lost."""
        self.connections.discard(connection)
        peer.connections -= 1
        if not peer.connections:
            self._peers.pop(peer.address, None)
        if not self.connections:
            self.left.set()

    def _make_room(self) -> None:
        """Drop those whose clients have had the turn for longest: idle ones, and slow ones."""
        waiting = [one for one in self.connections if one.since and not one.brisk(_LEAST_BYTES)]
        count = 1 + len(self.connections) // _DROPPED_PART
        for one in nsmallest(count, waiting, key=lambda one: one.since):
            self.connections.discard(one)
            one.drop()

    def sweep(self) -> None:
        """End connections of clients that take too long over what they began."""
        limits, now = self.limits, monotonic()
        for one in list(self.connections):
            if not one.since:
                continue
            limit = limits.transfer_s if one.transferring else limits.idle_s
            if now - one.since > limit:
                one.expire(HttpError(408, f"Expected a whole request within {limit:g} s"))
        if self.memory.short or self.memory.waiting:
            self._relieve(now)
        self.memory.short = False
        for one in self.connections:
            one.arrived_before = one.arrived

    def _relieve(self, now: float) -> None:
        """Where memory is short, end those who hold it and do not go on, else the youngest."""
        slow = [
            one
            for one in self.connections
            if one.held_bytes
            and one.transferring
            and one.since
            and now - one.since > _SLOW_S
            and not one.brisk(_LEAST_BYTES)
        ]
        for one in slow:
            one.expire(HttpError(408, "Expected the request sooner: others wait for its room"))
        waiting = self.memory.waiting
        if waiting and not slow:
            next(reversed(waiting)).expire(self.memory.refusal())
