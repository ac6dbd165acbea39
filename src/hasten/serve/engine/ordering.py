"""Answers in the order of their requests: ``preserve_ordering`` of Triton."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from hasten.errors import HastenError
from hasten.serve.engine.request import BatchResult, Reply, Request

if TYPE_CHECKING:
    from hasten.serve.engine.padding import Entry

__all__ = ["Ordering"]


class Ordering:
    """Keeps answers until all requests that came before are answered, refused or cancelled.

    Batches may end in any order: of several executors, priorities, shapes, or run again in halves.
    Called by the loop's thread alone.
    """

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._waiting: deque[Request] = deque()
        #: Those that wait for others before them: how each is to be answered; None if not at all.
        self._ended: dict[Request, _Answer | None] = {}

    def submit(self, request: Request, timeout_us: int) -> None:
        """Pass on; raises what the next does."""
        reply = request.reply

        def kept(_: Request, result: BatchResult | HastenError, start: int) -> None:
            request.reply = reply
            self._end(request, (reply, result, start))

        request.reply = kept
        self._waiting.append(request)
        try:
            self._entry.submit(request, timeout_us)
        except HastenError:
            request.reply = reply
            self._end(request, None)
            raise

    def cancel(self, request: Request) -> None:
        """Drop a request; those behind it need not wait for it."""
        self._entry.cancel(request)
        if request not in self._ended and request in self._waiting:
            self._end(request, None)
        elif request in self._ended:
            self._ended[request] = None

    def _end(self, request: Request, answer: _Answer | None) -> None:
        self._ended[request] = answer
        waiting = self._waiting
        while waiting and waiting[0] in self._ended:
            first = waiting.popleft()
            answer = self._ended.pop(first)
            if answer is not None:
                reply, result, start = answer
                reply(first, result, start)


_Answer = tuple[Reply, BatchResult | HastenError, int]
