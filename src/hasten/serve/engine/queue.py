"""Requests that wait: by priority, then by deadline, then by arrival."""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import attrgetter

from hasten.serve.engine.request import Request

__all__ = ["RequestQueue"]

_ORDER = attrgetter("order")
_WHEN = attrgetter("order", "sequence")


class RequestQueue:
    """One line for each kind of requests that may share a batch.

    A request nearly always belongs behind those that came before it: with one goal for all, who
    came first is due first. So each line is a deque, and only others are put in by search.
    Cancelled requests stay until they come to the front; ``rows`` and ``len`` leave them out.
    """

    def __init__(self) -> None:
        self._lines: dict[object, deque[Request]] = {}
        self._count = 0
        self._at_priority: dict[int, int] = {}
        self.rows = 0

    def __len__(self) -> int:
        return self._count

    def waiting(self, priority: int) -> int:
        """Count the requests of this priority."""
        return self._at_priority.get(priority, 0)

    def append(self, request: Request) -> None:
        """Add one where all are alike, so that it belongs behind all others, as ``take`` does."""
        line = self._lines.get(request.key)
        if line is None:
            self._lines[request.key] = deque((request,))
        else:
            line.append(request)
        request.queued = True
        self._count += 1
        self.rows += request.rows

    def push(self, request: Request) -> None:
        """Add one. A queue is filled by this or by ``append``, never by both."""
        priority = request.priority
        order = request.order = (priority, request.deadline_ns, request.sequence)
        line = self._lines.get(request.key)
        if line is None:
            self._lines[request.key] = deque((request,))
        elif line[-1].order < order:
            line.append(request)
        else:
            insort(line, request, key=_ORDER)
        request.queued = True
        self._count += 1
        self.rows += request.rows
        self._at_priority[priority] = self._at_priority.get(priority, 0) + 1

    def cancel(self, request: Request) -> None:
        """Mark one as cancelled, and take it out of the count if it waits."""
        request.cancelled = True
        if request.queued:
            self._forget(request)

    def head(self) -> Request | None:
        """Return the request that is next."""
        if len(self._lines) == 1:
            return self._front(next(iter(self._lines)))
        fronts = [self._front(key) for key in list(self._lines)]
        return min((one for one in fronts if one is not None), key=_WHEN, default=None)

    def rows_of(self, key: object) -> int:
        """Count the rows that wait with this key."""
        if len(self._lines) == 1 and key in self._lines:
            return self.rows
        return sum(one.rows for one in self._lines.get(key, ()) if not one.cancelled)

    def pop(self, key: object, rows: int) -> Request | None:
        """Take the next of this key if it has at most so many rows."""
        request = self._front(key)
        if request is None or request.rows > rows:
            return None
        line = self._lines[key]
        line.popleft()
        if not line:
            del self._lines[key]
        self._forget(request)
        return request

    def take(self, key: object, rows: int) -> list[Request]:
        """Take requests of this key from the front, up to so many rows in all."""
        found: list[Request] = []
        line = self._lines.get(key)
        if line is None:
            return found
        taken = 0
        while line:
            request = line[0]
            if not request.cancelled:
                if taken + request.rows > rows:
                    break
                taken += request.rows
                request.queued = False
                found.append(request)
            line.popleft()
        if not line:
            del self._lines[key]
        self._count -= len(found)
        self.rows -= taken
        return found

    def drain(self) -> list[Request]:
        """Take all."""
        left = [one for line in self._lines.values() for one in line if not one.cancelled]
        for request in left:
            request.queued = False
        self._lines.clear()
        self._count = self.rows = 0
        self._at_priority.clear()
        return left

    def _front(self, key: object) -> Request | None:
        line = self._lines.get(key)
        while line:
            if not line[0].cancelled:
                return line[0]
            line.popleft()
        self._lines.pop(key, None)
        return None

    def _forget(self, request: Request) -> None:
        request.queued = False
        self._count -= 1
        self.rows -= request.rows
        if self._at_priority:
            self._at_priority[request.priority] -= 1
