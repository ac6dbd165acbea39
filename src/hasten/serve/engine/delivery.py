"""What a batch came to, to each of its requests, and to the counters."""

from __future__ import annotations

from bisect import bisect_left
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING

from hasten.errors import HastenError, RuntimeFailureError
from hasten.serve.engine.request import Batch, BatchResult, Request
from hasten.serve.engine.statistics import LATENCY_EDGES_NS, FailureReason
from hasten.serve.engine.suspects import Apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hasten.serve.engine.fault import Blame
    from hasten.serve.engine.statistics import ModelStatistics
    from hasten.serve.engine.suspects import Suspects

__all__ = ["Delivery"]


class Delivery:
    """Answers, says whose fault a failure is, and counts. Called by the loop's thread alone."""

    def __init__(self, statistics: ModelStatistics, suspects: Suspects, blame: Blame) -> None:
        self._statistics = statistics
        self._suspects = suspects
        self._blame = blame

    def deliver(self, batch: Batch) -> None:
        """Answer each request of a batch that has ended."""
        if batch.result is not None:
            self._blame.answered()
            self._answer(batch, batch.result)
        else:
            self._statistics.reruns += batch.reruns
            self._sort_out(batch.parts or [batch])
        if isinstance(batch.requests[0].key, Apart):
            self._count_apart(batch)

    def give_up(self, batch: Batch, answered: Sequence[Batch], error: HastenError) -> None:
        """Tell an error to those of a batch that are in none of its parts that were answered."""
        done = {one for part in answered for one in part.requests}
        rest = Batch([one for one in batch.requests if one not in done], 0)
        rest.error = error
        self._sort_out([*answered, rest])

    def refuse(
        self, request: Request, error: HastenError, reason: FailureReason, now_ns: int
    ) -> None:
        """Tell one request that it is not answered."""
        self._statistics.failed(reason, now_ns - request.arrival_ns)
        if not request.cancelled:
            request.reply(request, error, 0)

    def _sort_out(self, parts: Sequence[Batch]) -> None:
        """Answer those of a failed batch who could be answered, and tell the others why not."""
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
        alone = len(batch.requests) == 1
        for request in batch.requests:
            if alone:
                self._suspects.failed(request.origin, now)
            answer = self._blame.of(error, request.origin, well=well)
            if not request.cancelled:
                self.refuse(request, answer, "BACKEND", now)
