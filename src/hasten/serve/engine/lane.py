"""One model's requests from arrival to answer: the scheduler, driven by an event loop.

An executor is a thread with a runner. When it ends a batch it takes the next one itself, so the
model never waits for the event loop; the loop is told once a batch. A model that computes for less
time than a thread takes to wake up is run by the loop itself.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from functools import partial
from queue import SimpleQueue
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING

from hasten.errors import HastenError, OverloadedError, RuntimeFailureError
from hasten.runtimes.vendor import reported
from hasten.serve.engine.fault import Blame
from hasten.serve.engine.halves import run_in_halves
from hasten.serve.engine.request import NEVER_NS, Batch, BatchResult, Request
from hasten.serve.engine.statistics import LATENCY_EDGES_NS, FailureReason
from hasten.serve.engine.suspects import Apart, Suspects

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from hasten.serve.engine.runner import Runner
    from hasten.serve.engine.scheduler import Scheduler
    from hasten.serve.engine.statistics import ModelStatistics

__all__ = ["Lane"]

#: How often requests that may expire are looked at while no executor is free.
_EXPIRY_S = 0.01
_RUNNING = reported("the batch could not be run")


class Lane:
    """Made, called and closed by the loop's thread; requests are answered by it too.

    With ``inline`` there is one runner and no thread.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        scheduler: Scheduler,
        runners: Sequence[Runner],
        statistics: ModelStatistics,
        *,
        inline: bool,
    ) -> None:
        self._loop = loop
        self._scheduler = scheduler
        self._statistics = statistics
        self._lock = threading.Lock()
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake_ns = NEVER_NS
        self._closing = False
        self._closed: asyncio.Future[None] = loop.create_future()
        self._in_flight = 0
        self._suspects = Suspects()
        self._blame = Blame()
        self._runners = list(runners)
        self._inline = runners[0] if inline else None
        #: Whether the last batch had several requests, and the sockets were looked at once more.
        self._shared = self._looked_again = False
        self._executors = (
            [] if inline else [_Executor(name, self, one, scheduler.size_of) for one in runners]
        )
        self._idle = list(self._executors)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._scheduler.waiting

    def submit(self, request: Request, timeout_us: int = 0) -> None:
        """Queue a request; raises OverloadedError where it is refused at once."""
        if self._closing:
            raise OverloadedError("The model is being unloaded", retry_after_s=1.0)
        if self._suspects and self._suspects.includes(request.origin, request.arrival_ns):
            request.key = Apart(request.key)
        try:
            if self._inline is not None:
                self._scheduler.admit(request, request.arrival_ns, timeout_us)
            else:
                with self._lock:
                    self._scheduler.admit(request, request.arrival_ns, timeout_us)
        except OverloadedError:
            self._statistics.failed("REJECTED", perf_counter_ns() - request.arrival_ns)
            raise
        if not self._scheduled and (self._idle or self._inline):
            # Not at once: what else this turn of the loop brings may share the batch.
            self._scheduled = True
            self._loop.call_soon(self._dispatch)
        elif self._scheduler.bounded and self._timer is None:
            self._arm(perf_counter_ns() + int(_EXPIRY_S * 1e9))

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
                    self._idle.pop().inbox.put(batch)
        self._settle()

    def _dispatch_inline(self, runner: Runner) -> None:
        batch = self._take()
        if batch is None:
            return
        _run(runner, batch, self._scheduler.size_of)
        self._scheduler.finished(batch)
        self._deliver(batch)
        if self._scheduler.waiting and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)  # after another look at the sockets

    def _take(self) -> Batch | None:
        batch = self._scheduler.take(perf_counter_ns())
        if batch is not None:
            self._in_flight += 1
        return batch

    def next_batch(self, executor: _Executor, ended: Batch) -> Batch | None:
        """Called by an executor's thread: learn from the batch it ran, give it another."""
        with self._lock:
            self._scheduler.finished(ended)
            batch = self._take()
            if batch is None:
                self._idle.append(executor)
        self._loop.call_soon_threadsafe(self._ended, ended)
        return batch

    def _ended(self, batch: Batch) -> None:
        self._deliver(batch)
        if self._idle and self._scheduler.waiting and not self._scheduled:
            self._dispatch()  # it arrived while the executor went idle
        else:
            self._settle()

    def _deliver(self, batch: Batch) -> None:
        """Answer each request of a batch, and count."""
        with self._lock:  # executors count up
            self._in_flight -= 1
        apart = isinstance(batch.requests[0].key, Apart)
        if not apart:
            self._shared = len(batch.requests) > 1
        if batch.result is not None:
            self._blame.answered()
            self._answer(batch, batch.result)
        else:
            self._sort_out(batch)
        if apart:
            self._count_apart(batch)

    def _sort_out(self, batch: Batch) -> None:
        """Answer those of a failed batch who could be answered, and tell the others why not."""
        self._statistics.reruns += batch.reruns
        parts = batch.parts or [batch]
        well = any(part.result is not None for part in parts)
        for part in parts:
            if part.result is not None:
                self._answer(part, part.result)
            else:
                self._fail(part, well=well)
        if well:
            self._blame.answered()

    def _count_apart(self, batch: Batch) -> None:
        self._statistics.apart += len(batch.requests)
        if batch.result is not None:
            for request in batch.requests:
                self._suspects.answered(request.origin)

    def _answer(self, batch: Batch, result: BatchResult) -> None:
        statistics, start = self._statistics, 0
        now, begin = perf_counter_ns(), batch.begin_ns
        statistics.executed(batch.size, batch.rows, batch.input_ns, batch.run_ns, batch.output_ns)
        count, arrived, unheard, unheard_ns = len(batch.requests), 0, 0, 0
        latencies = statistics.latency_counts
        for request in batch.requests:
            arrival = request.arrival_ns
            arrived += arrival
            if not request.cancelled:
                latencies[bisect_left(LATENCY_EDGES_NS, now - arrival)] += 1
                request.reply(request, result, start)
            else:
                unheard += 1
                unheard_ns += now - arrival
            start += request.rows
        statistics.success_requests += count - unheard
        statistics.success_ns += now * count - arrived - unheard_ns
        statistics.last_inference_ms = time_ns() // 1_000_000
        statistics.queue_ns += begin * count - arrived
        statistics.compute_input_ns += batch.input_ns * count
        statistics.compute_infer_ns += batch.run_ns * count
        statistics.compute_output_ns += batch.output_ns * count

    def _fail(self, batch: Batch, *, well: bool) -> None:
        """Tell whose fault it is; ``well`` says that others of the batch were answered."""
        now = perf_counter_ns()
        error = batch.error or RuntimeFailureError("the runtime gave no answer")
        for request in batch.requests:
            self._suspects.failed(request.origin, now)
            answer = self._blame.of(error, request.origin, well=well)
            if not request.cancelled:
                self._refuse(request, answer, "BACKEND", now)

    def _settle(self) -> None:
        """Tell whom the scheduler dropped, arm the timer it asks for, end if there is no more."""
        scheduler = self._scheduler
        if scheduler.dropped:
            with self._lock:
                dropped, scheduler.dropped = scheduler.dropped, []
            now = perf_counter_ns()
            for request, error in dropped:
                self._refuse(request, error, "REJECTED", now)
        if scheduler.wake_ns != NEVER_NS:
            self._arm(scheduler.wake_ns)
        elif scheduler.bounded and scheduler.waiting:
            self._arm(perf_counter_ns() + int(_EXPIRY_S * 1e9))
        left = self._in_flight or scheduler.waiting
        if self._closing and not left and not self._closed.done():
            self._closed.set_result(None)

    def _refuse(
        self, request: Request, error: HastenError, reason: FailureReason, now_ns: int
    ) -> None:
        self._statistics.failed(reason, now_ns - request.arrival_ns)
        if not request.cancelled:
            request.reply(request, error, 0)

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
        self._closing = True
        self._settle()
        await self._closed
        if self._timer is not None:
            self._timer.cancel()
        for executor in self._executors:
            executor.inbox.put(None)
        await self._loop.run_in_executor(None, self._free)

    def _free(self) -> None:
        for executor in self._executors:
            executor.join()
        for runner in self._runners:
            runner.close()


class _Executor(threading.Thread):
    """One thread with one runner."""

    def __init__(
        self, name: str, lane: Lane, runner: Runner, size_of: Callable[[int], int]
    ) -> None:
        super().__init__(name=f"hasten-{name}", daemon=True)
        self.inbox: SimpleQueue[Batch | None] = SimpleQueue()
        self._lane = lane
        self._runner = runner
        self._size_of = size_of
        self.start()

    def run(self) -> None:
        while (batch := self.inbox.get()) is not None:
            following: Batch | None = batch
            while following is not None:
                _run(self._runner, following, self._size_of)
                following = self._lane.next_batch(self, following)


def _run(runner: Runner, batch: Batch, size_of: Callable[[int], int]) -> None:
    """Run a batch, or its parts where it fails; the executor lives on, whatever goes wrong."""
    batch.error = _error_of(runner, batch)
    if batch.error is not None and len(batch.requests) > 1:
        run_in_halves(batch, partial(_error_of, runner), size_of)
    batch.end_ns = perf_counter_ns()


def _error_of(runner: Runner, batch: Batch) -> HastenError | None:
    """Run a batch, and return what went wrong."""
    try:
        with _RUNNING:
            runner.run(batch)
    except HastenError as error:
        return error
    return None
