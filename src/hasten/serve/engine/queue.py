"""Requests that wait: by priority, then by deadline, then by arrival."""

from __future__ import annotations

from heapq import heappop, heappush

from hasten.serve.engine.request import Request

__all__ = ["RequestQueue"]

_Entry = tuple[int, int, int, Request]


class RequestQueue:
    """One heap for each kind of requests that may share a batch.

    Cancelled requests stay until they come to the front; ``rows`` and ``len`` leave them out.
    """

    def __init__(self) -> None:
        self._heaps: dict[object, list[_Entry]] = {}
        self._count = 0
        self._at_priority: dict[int, int] = {}
        self.rows = 0

    def __len__(self) -> int:
        return self._count

    def waiting(self, priority: int) -> int:
        """Count the requests of this priority."""
        return self._at_priority.get(priority, 0)

    def push(self, request: Request) -> None:
        """Add one."""
        heap = self._heaps.get(request.key)
        if heap is None:
            heap = self._heaps[request.key] = []
        heappush(heap, (request.priority, request.deadline_ns, request.sequence, request))
        request.queued = True
        self._count += 1
        self.rows += request.rows
        priority = request.priority
        self._at_priority[priority] = self._at_priority.get(priority, 0) + 1

    def cancel(self, request: Request) -> None:
        """Mark one as cancelled, and take it out of the count if it waits."""
        request.cancelled = True
        if request.queued:
            self._forget(request)

    def head(self) -> Request | None:
        """Return the request that is next."""
        best: _Entry | None = None
        for key in list(self._heaps):
            entry = self._front(key)
            if entry is not None and (best is None or entry < best):
                best = entry
        return best[3] if best else None

    def rows_of(self, key: object) -> int:
        """Count the rows that wait with this key."""
        if len(self._heaps) == 1 and key in self._heaps:
            return self.rows
        return sum(entry[3].rows for entry in self._heaps.get(key, ()) if not entry[3].cancelled)

    def pop(self, key: object, rows: int) -> Request | None:
        """Take the next of this key if it has at most so many rows."""
        entry = self._front(key)
        if entry is None or entry[3].rows > rows:
            return None
        heap = self._heaps[key]
        heappop(heap)
        if not heap:
            del self._heaps[key]
        self._forget(entry[3])
        return entry[3]

    def drain(self) -> list[Request]:
        """Take all."""
        left = [
            entry[3]
            for heap in self._heaps.values()
            for entry in sorted(heap)
            if not entry[3].cancelled
        ]
        for request in left:
            request.queued = False
        self._heaps.clear()
        self._count = self.rows = 0
        self._at_priority.clear()
        return left

    def _front(self, key: object) -> _Entry | None:
        heap = self._heaps.get(key)
        while heap:
            if not heap[0][3].cancelled:
                return heap[0]
            heappop(heap)
        self._heaps.pop(key, None)
        return None

    def _forget(self, request: Request) -> None:
        request.queued = False
        self._count -= 1
        self.rows -= request.rows
        self._at_priority[request.priority] -= 1
