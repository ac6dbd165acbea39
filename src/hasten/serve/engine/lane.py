"""One model's requests from arrival to answer: the scheduler, driven by an event loop.

When an executor ends a batch it takes the next one itself, so the model never waits for the event
loop; the loop is told once a batch. Batches that take less time than a thread takes to wake up are
run by the loop itself; whatever may take longer, or goes wrong, is an executor's.
"""

from __future__ import annotations

import logging
import threading
from time import perf_counter_ns
from typing import TYPE_CHECKING

from hasten.errors import OverloadedError
from hasten.serve.engine.delivery import Delivery
from hasten.serve.engine.executor import Executor, run_alone, too_long
from hasten.serve.engine.fault import Blame
from hasten.serve.engine.request import NEVER_NS, Batch, Request
from hasten.serve.engine.suspects import Apart, Suspects

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from hasten.serve.engine.inline import Inline
    from hasten.serve.engine.runner import Runner
    from hasten.serve.engine.scheduler import Scheduler
    from hasten.serve.engine.statistics import ModelStatistics

__all__ = ["Lane"]

#: How often requests that may expire are looked at while no executor is free.
_EXPIRY_S = 0.01
_log = logging.getLogger("hasten.serve")


class Lane:
    """Made, called and closed by the loop's thread; requests are answered by it too.

    With ``inline`` there is one runner, which the loop uses while its executor does not. A run may
    take ``limit_ns``; an executor that is lost in a longer one harms only its own batch.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        scheduler: Scheduler,
        runners: Sequence[Runner],
        statistics: ModelStatistics,
        *,
        inline: Inline | None,
        limit_ns: int,
        warm: bool = True,
    ) -> None:
        self._name = name
        self._loop = loop
        self._scheduler = scheduler
        self._statistics = statistics
        self._lock = threading.Lock()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake_ns = NEVER_NS
        #: Whether requests are taken no more, or nobody could run them.
        self._closing = self._refusing = False
        self._closed: asyncio.Future[None] = loop.create_future()
        self._in_flight = 0
        self._suspects = Suspects()
        self._delivery = Delivery(statistics, self._suspects, Blame(well=warm))
        self._inline = inline
        #: Whether the last batch had several requests, and the sockets were looked at once more.
        self._shared = self._looked_again = False
        self._limit_ns = limit_ns
        self._watch: asyncio.TimerHandle | None = None
        self._executors = [
            Executor(name, one, self._next_batch, scheduler.size_of, limit_ns) for one in runners
        ]
        self._idle = list(self._executors)
        self._lost = 0

    @property
    def trouble(self) -> str:
        """Why not all requests can be answered; empty while they can."""
        if not self._lost:
            return ""
        lost = f"{self._lost} of {len(self._executors)} executors"
        return f"{lost} did not come back from a run that passed {self._limit_ns / 1e6:g} ms"

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._scheduler.waiting

    def submit(self, request: Request, timeout_us: int = 0) -> None:
        """Queue a request; raises OverloadedError where it is refused at once."""
        if self._refusing:
            raise self._refusal(request)
        if self._suspects.origins and self._suspects.includes(request.origin, request.arrival_ns):
            request.key = Apart(request.key)
        try:
            if self._inline is not None and self._idle:  # no thread is at the scheduler
                self._scheduler.admit(request, request.arrival_ns, timeout_us)
            else:
                with self._lock:
                    self._scheduler.admit(request, request.arrival_ns, timeout_us)
        except OverloadedError:
            self._statistics.failed("REJECTED", perf_counter_ns() - request.arrival_ns)
            raise
        if not self._scheduled and self._idle:
            # Not at once: what else this turn of the loop brings may share the batch.
            self._scheduled = True
            self._loop.call_soon(self._dispatch)
        elif self._scheduler.bounded and self._timer is None:
            self._arm(perf_counter_ns() + int(_EXPIRY_S * 1e9))

    def _refusal(self, request: Request) -> OverloadedError:
        if self._closing:
            return OverloadedError("The model is being unloaded", retry_after_s=1.0)
        self._statistics.failed("REJECTED", perf_counter_ns() - request.arrival_ns)
        return self._nobody_left()

    def cancel(self, request: Request) -> None:
        """Drop a request whose answer nobody waits for any more."""
        with self._lock:
            if request.cancelled:
                return
            if request.queued:
                request.inputs = ()  # it may stay in the queue for a while
            self._scheduler.cancel(request)
        self._statistics.failed("CANCELED", perf_counter_ns() - request.arrival_ns)
        if self._closing:
            self._settle()

    def _dispatch(self) -> None:
        """Give what waits to executors that are free."""
        self._scheduled = False
        if self._shared and not self._looked_again and not self._closing:
            # Under load one more look at the sockets, which does not wait, finds more to share.
            self._looked_again = self._scheduled = True
            self._loop.call_soon(self._dispatch)
            return
        self._looked_again = False
        if self._inline is not None:
            self._dispatch_inline(self._inline)
        else:
            with self._lock:
                while self._idle:
                    batch = self._take()
                    if batch is None:
                        break
                    self._give(batch)
        self._settle()

    def _dispatch_inline(self, inline: Inline) -> None:
        batch = self._take() if self._idle else None
        if batch is None:
            return
        if not inline.takes(batch):
            self._give(batch)
            return
        batch.error = run_alone(self._idle[0].runner, batch)
        if batch.error is not None and len(batch.requests) > 1:
            self._give(batch)  # to be run again in halves
            return
        batch.end_ns = perf_counter_ns()
        if batch.run_ns > inline.far_ns:
            inline.distrust(batch)
        self._scheduler.finished(batch)
        self._deliver(batch)
        if not self._scheduled and self._scheduler.urges(batch.end_ns):
            self._scheduled = True
            self._loop.call_soon(self._dispatch)  # after another look at the sockets

    def _give(self, batch: Batch) -> None:
        """Have an executor that is idle run a batch, and look after it."""
        self._idle.pop().give(batch)
        if self._watch is None:
            self._watch = self._loop.call_later(self._limit_ns / 1e9, self._look_after)

    def _take(self) -> Batch | None:
        batch = self._scheduler.take(perf_counter_ns())
        if batch is not None:
            self._in_flight += 1
        return batch

    def _next_batch(self, executor: Executor, ended: Batch) -> Batch | None:
        """Called by an executor's thread: learn from the batch it ran, give it another."""
        with self._lock:
            batch = None
            if not executor.lost:
                self._scheduler.finished(ended)
                if self._inline is None:
                    batch = self._take()
                elif ended.error is None:
                    self._inline.learn(ended)
            lost = executor.lost
            if batch is None:
                executor.batch = None
                executor.lost = False
                self._lost -= lost
                self._refusing = self._closing
                self._idle.append(executor)
        if not lost:
            self._loop.call_soon_threadsafe(self._ended, ended)
        elif not self._closing:  # else the loop may have ended
            self._loop.call_soon_threadsafe(self._come_back)
        return batch

    def _come_back(self) -> None:
        _log.warning("%s: an executor that was lost came back", self._name)
        self._dispatch()

    def _look_after(self) -> None:
        """Stop runs that passed their limit, and give up executors that do not obey."""
        self._watch, again = None, NEVER_NS
        now = perf_counter_ns()
        for executor in self._executors:
            if executor.batch is None or executor.lost:
                continue
            look_ns = executor.overdue_ns(now)
            if look_ns:
                again = min(again, look_ns)
            else:
                self._give_up(executor)
        if again != NEVER_NS:
            self._watch = self._loop.call_later((again - now) / 1e9, self._look_after)

    def _give_up(self, executor: Executor) -> None:
        """Answer those who wait for an executor that is lost."""
        with self._lock:
            batch = executor.batch
            if batch is None or not executor.since_ns:
                return  # it came back just now
            executor.lost = True
            self._lost += 1
            self._in_flight -= 1
            batch.error = too_long(executor.limit_ns)
            answered = [part for part in batch.parts if part.result is not None]
            self._scheduler.finished(batch)
        _log.warning("%s is not ready: %s", self._name, self.trouble)
        self._delivery.give_up(batch, answered, batch.error)
        if self._lost == len(self._executors):
            with self._lock:
                self._refusing = self._closing or not self._idle
                waiting = self._scheduler.drain()
            now = perf_counter_ns()
            for request in waiting:
                self._delivery.refuse(request, self._nobody_left(), "OTHER", now)
        self._settle()

    def _nobody_left(self) -> OverloadedError:
        return OverloadedError(f"The model is not ready: {self.trouble}", retry_after_s=1.0)

    def _ended(self, batch: Batch) -> None:
        self._deliver(batch)
        if self._idle and not self._scheduled and self._scheduler.urges(perf_counter_ns()):
            self._dispatch()  # it arrived while the executor went idle
        else:
            self._settle()

    def _deliver(self, batch: Batch) -> None:
        with self._lock:  # executors count up
            self._in_flight -= 1
        if not isinstance(batch.requests[0].key, Apart):
            self._shared = len(batch.requests) > 1
        self._delivery.deliver(batch)

    def _settle(self) -> None:
        """Tell whom the scheduler dropped, arm the timer it asks for, end if there is no more."""
        scheduler = self._scheduler
        if scheduler.dropped:
            with self._lock:
                dropped, scheduler.dropped = scheduler.dropped, []
            now = perf_counter_ns()
            for request, error in dropped:
                self._delivery.refuse(request, error, "REJECTED", now)
        if scheduler.wake_ns != NEVER_NS:
            self._arm(scheduler.wake_ns)
        elif scheduler.bounded and scheduler.waiting:
            self._arm(perf_counter_ns() + int(_EXPIRY_S * 1e9))
        left = self._in_flight or scheduler.waiting
        if self._closing and not left and not self._closed.done():
            self._closed.set_result(None)

    def _arm(self, at_ns: int) -> None:
        if self._timer is not None:
            if at_ns >= self._wake_ns:
                return
            self._timer.cancel()
        self._wake_ns = at_ns
        delay_s = max(0.0, (at_ns - perf_counter_ns()) / 1e9)
        self._timer = self._loop.call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._timer, self._wake_ns = None, NEVER_NS
        if self._scheduler.bounded:
            with self._lock:
                self._scheduler.expire(perf_counter_ns())
        self._dispatch()

    async def close(self) -> None:
        """Take no more, let what waits and what runs end, and free the sessions."""
        self._closing = self._refusing = True
        self._settle()
        await self._closed
        for timer in (self._timer, self._watch):
            if timer is not None:
                timer.cancel()
        for executor in self._executors:
            executor.end()
        await self._loop.run_in_executor(None, self._free)

    def _free(self) -> None:
        for executor in self._executors:
            executor.join()
