"""The parent's side of the process that generates load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from hasten.errors import RuntimeFailureError
from hasten.load_generator.client import Address
from hasten.load_generator.protocol import (
    Aim,
    Closed,
    Done,
    Fail,
    Fire,
    Open,
    Tell,
    receive_reply,
    send_bytes,
)
from hasten.load_generator.protocol import send as send_order
from hasten.load_generator.record import Record

__all__ = ["Generator"]


def _ignore(done: float) -> None:
    del done


class Generator:
    """Generates load in a process of its own; close it, or use it as a context.

    Raises RuntimeFailureError where that process fails or dies.
    """

    def __init__(self) -> None:
        to_child, orders = os.pipe()
        replies, from_child = os.pipe()
        self._orders = os.fdopen(orders, "wb")
        self._replies = os.fdopen(replies, "rb")
        self._servers = 0
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "hasten.load_generator.worker",
                    str(to_child),
                    str(from_child),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(to_child, from_child),
                start_new_session=True,  # Ctrl-C is for the parent, which ends it
            )
        finally:
            os.close(to_child)
            os.close(from_child)

    @property
    def pid(self) -> int:
        """The process, as the system knows it."""
        return self._process.pid

    def aim(
        self,
        address: Address,
        requests: Sequence[bytes],
        *,
        timeout_s: float,
        most_connections: int,
        keep_answers: bool = False,
    ) -> int:
        """Connect to a server; returns the number to ``fire`` at."""
        order = Aim(
            address.host,
            address.port,
            len(requests),
            int(timeout_s * 1e9),
            most_connections,
            keep_answers,
        )
        with self._lost():
            send_order(self._orders, order)
            send_bytes(self._orders, requests)
        self._await()
        self._servers += 1
        return self._servers - 1

    def fire(
        self,
        server: int,
        pattern: Closed | Open,
        *,
        goal_ns: int = 0,
        most_bad: int | None = None,
        advance: Callable[[float], None] = _ignore,
    ) -> Record:
        """Load a server; ``advance`` is told what share of the run is over."""
        with self._lost():
            send_order(self._orders, Fire(server, pattern, goal_ns, most_bad))
        record = self._await(advance).record
        assert record is not None  # noqa: S101 - the answer to this order has one
        return record

    def _lost(self) -> suppress:
        # Where it has died, the answer that does not come says so.
        return suppress(BrokenPipeError)

    def _await(self, advance: Callable[[float], None] = _ignore) -> Done:
        while True:
            try:
                reply = receive_reply(self._replies)
            except EOFError:
                code = self._process.wait()
                how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
                raise RuntimeFailureError(f"the load generator's process died: {how}") from None
            if isinstance(reply, Fail):
                raise RuntimeFailureError(reply.reason)
            if isinstance(reply, Done):
                return reply
            assert isinstance(reply, Tell)  # noqa: S101
            advance(reply.done)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._replies.close()
        with suppress(BrokenPipeError):
            self._orders.close()

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
