"""Requests that wait: by priority, then by deadline, then by arrival."""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

from hasten.serve.engine.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RequestQueue"]

_ORDER = attrgetter("order")
_WHEN = attrgetter("order", "sequence")


class _Line:
    """Requests of one key, and the rows of those that were not cancelled."""

    __slots__ = ("requests", "rows")

    def __init__(self, first: Request) -> None:
        self.requests = deque((first,))
        self.rows = first.rows


class RequestQueue:
    """One line for each kind of requests that may share a batch.

    A request nearly always belongs behind those that came before it: with one goal for all, who
    came first is due first. So each line is a deque, and only others are put in by search.
    Cancelled requests stay until they come to the front; ``rows`` and ``len`` leave them out.
    """

    def __init__(self) -> None:
        self._lines: dict[object, _Line] = {}
        self._count = 0
        self._at_priority: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> int:
        """Rows of all that wait."""
        return sum(line.rows for line in self._lines.values())

    def waiting(self, priority: int) -> int:
        """Count the requests of this priority."""
        return self._at_priority.get(priority, 0)

    def append(self, request: Request) -> None:
        """Add one where all are alike, so that it belongs behind all others, as ``take`` does."""
        line = self._lines.get(request.key)
        if line is None:
            self._lines[request.key] = _Line(request)
        else:
            line.requests.append(request)
            line.rows += request.rows
        request.queued = True
        self._count += 1

    def push(self, request: Request) -> None:
        """Add one. A queue is filled by this or by ``append``, never by both."""
        priority = request.priority
        order = request.order = (priority, request.deadline_ns, request.sequence)
        line = self._lines.get(request.key)
        if line is None:
            self._lines[request.key] = _Line(request)
        else:
            if line.requests[-1].order < order:
                line.requests.append(request)
            else:
                insort(line.requests, request, key=_ORDER)
            line.rows += request.rows
        request.queued = True
        self._count += 1
        self._at_priority[priority] = self._at_priority.get(priority, 0) + 1

    def cancel(self, request: Request) -> None:
        """Mark one as cancelled, and take it out of the count if it waits."""
        request.cancelled = True
        if request.queued:
            self._forget(request, self._lines[request.key])

    def head(self) -> Request | None:
        """Return the request that is next."""
        if len(self._lines) == 1:
            return self._front(next(iter(self._lines)))
        return min(self.fronts(), key=_WHEN, default=None)

    def fronts(self) -> Iterator[Request]:
        """Go through the first of each key."""
        for key in list(self._lines):
            front = self._front(key)
            if front is not None:
                yield front

    def rows_of(self, key: object) -> int:
        """Count the rows that wait with this key."""
        line = self._lines.get(key)
        return line.rows if line is not None else 0

    def oldest_ns(self, key: object) -> int:
        """Return when the first that waits with this key arrived; it need not be at the front."""
        return min(one.arrival_ns for one in self._lines[key].requests if not one.cancelled)

    def pop(self, key: object, rows: int) -> Request | None:
        """Take the next of this key if it has at most so many rows."""
        request = self._front(key)
        if request is None or request.rows > rows:
            return None
        line = self._lines[key]
        line.requests.popleft()
        if not line.requests:
            del self._lines[key]
        self._forget(request, line)
        return request

    def take(self, key: object, rows: int) -> list[Request]:
        """Take requests of this key from the front, up to so many rows in all."""
        found: list[Request] = []
        line = self._lines.get(key)
        if line is None:
            return found
        requests, taken = line.requests, 0
        while requests:
            request = requests[0]
            if not request.cancelled:
                if taken + request.rows > rows:
                    break
                taken += request.rows
                request.queued = False
                found.append(request)
            requests.popleft()
        if not requests:
            del self._lines[key]
        self._count -= len(found)
        line.rows -= taken
        return found

    def drain(self) -> list[Request]:
        """Take all."""
        lines = self._lines.values()
        left = [one for line in lines for one in line.requests if not one.cancelled]
        for request in left:
            request.queued = False
        self._lines.clear()
        self._count = 0
        self._at_priority.clear()
        return left

    def _front(self, key: object) -> Request | None:
        line = self._lines.get(key)
        if line is None:
            return None
        requests = line.requests
        while requests:
            if not requests[0].cancelled:
                return requests[0]
            requests.popleft()
        del self._lines[key]
        return None

    def _forget(self, request: Request, line: _Line) -> None:
        request.queued = False
        self._count -= 1
        line.rows -= request.rows
        if self._at_priority:
            self._at_priority[request.priority] -= 1
