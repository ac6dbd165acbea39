"""Bursts and overload: a queue that drains by itself, and one that stands."""

from __future__ import annotations

__all__ = ["StandingQueue"]


class StandingQueue:
    """Tells whether requests that would be late are a burst or an overload.

    A burst, or a stall of the host, is over soon: refusing then turns late answers into none. The
    queue stands once every request for ``interval_ns`` would have been late; from then on what
    would be late is to be refused, until an interval has passed without any.

    Source: the control law's first half of Nichols and Jacobson, "Controlling Queue Delay", ACM
    Queue 10(5), 2012 (CoDel, RFC 8289), with the expected wait in place of the one that was had.

    >>> queue = StandingQueue(interval_ns=100)
    >>> queue.late(0), queue.late(50), queue.late(100)
    (False, False, True)
    >>> queue.in_time(150), queue.late(190), queue.in_time(300), queue.late(310)
    (None, True, None, False)
    """

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._first_ns: int | None = None
        self._last_ns = 0
        self.stands = False

    def late(self, now_ns: int) -> bool:
        """Note a request that came now and would be late; returns whether the queue stands."""
        if self._first_ns is None:
            self._first_ns = now_ns
        self._last_ns = now_ns
        self.stands = self.stands or now_ns - self._first_ns >= self._interval_ns
        return self.stands

    def in_time(self, now_ns: int) -> None:
        """Note a request that came now and will be in time."""
        if self.stands and now_ns - self._last_ns < self._interval_ns:
            return  # it is in time because others were refused
        self.stands = False
        self._first_ns = None
