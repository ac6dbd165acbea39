"""The process that generates load: ``python -m hasten.load_generator.worker``.

A process of its own, for whatever else the caller does, such as drawing a progress bar, would hold
the interpreter's lock when a send is due. Nothing but the client runs here, without garbage
collection.
"""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import replace
from typing import IO

from hasten.errors import HastenError
from hasten.load_generator.client import Address, Client, Patience
from hasten.load_generator.protocol import (
    Aim,
    Closed,
    Done,
    Fail,
    Fire,
    Reply,
    Tell,
    receive_bytes,
    receive_order,
    send,
)
from hasten.load_generator.record import Record

__all__ = ["main"]

#: It says how far it is no more often than this share of a run.
_STEP = 0.01


class _Side:
    """The parent's side, for a client that tells how far it is."""

    def __init__(self, replies: IO[bytes]) -> None:
        self._replies = replies
        self._told = 0.0

    def begin(self) -> None:
        self._told = 0.0

    def tick(self, done: float) -> None:
        if done >= self._told + _STEP:
            self._told = done
            send(self._replies, Tell(done))

    def answer(self, reply: Reply) -> None:
        send(self._replies, reply)


def main(orders_fd: int, replies_fd: int) -> None:
    """Do what is asked until the parent is gone."""
    clients: list[Client] = []
    with os.fdopen(orders_fd, "rb") as orders, os.fdopen(replies_fd, "wb") as replies:
        side = _Side(replies)
        while True:
            try:
                order = receive_order(orders)
                if isinstance(order, Aim):
                    pool = [receive_bytes(orders) for _ in range(order.requests)]
                    clients.append(_client(order, pool, side))
                    side.answer(Done())
                else:
                    side.begin()
                    side.answer(Done(_run(clients[order.server], order)))
            except HastenError as problem:
                side.answer(Fail(str(problem)))
            except EOFError:
                return


def _client(order: Aim, pool: list[bytes], side: _Side) -> Client:
    return Client(
        Address(order.host, order.port),
        pool,
        Patience(order.timeout_ns),
        most_connections=order.most_connections,
        keep_answers=order.keep_answers,
        tick=side.tick,
    )


def _run(client: Client, order: Fire) -> Record:
    client.patience = replace(client.patience, goal_ns=order.goal_ns, most_bad=order.most_bad)
    gc.collect()
    gc.freeze()
    gc.disable()
    pattern = order.pattern
    if isinstance(pattern, Closed):
        return client.closed(pattern.concurrency, pattern.duration_ns, pattern.queries)
    return client.open(pattern.arrivals, pattern.duration_ns, pattern.queries)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
