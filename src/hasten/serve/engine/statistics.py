"""What a served model has done: counters that front ends turn into metrics and statistics.

Counters only rise and are written once a batch by the event loop's thread. Times are nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["LATENCY_EDGES_NS", "BatchStatistics", "FailureReason", "ModelStatistics"]

#: Triton's reasons of nv_inference_request_failure.
FailureReason = Literal["REJECTED", "CANCELED", "BACKEND", "OTHER"]

#: Upper edges of the latency histogram: 20 us to 100 s, each a quarter above the one before.
LATENCY_EDGES_NS: tuple[int, ...] = tuple(int(20_000 * 1.25**at) for at in range(70))


@dataclass(slots=True)
class BatchStatistics:
    """Batches of one size: how many, and their times in sum."""

    count: int = 0
    compute_input_ns: int = 0
    compute_infer_ns: int = 0
    compute_output_ns: int = 0


@dataclass(slots=True)
class ModelStatistics:
    """One version of one model.

    ``success_requests`` and ``success_ns`` are requests answered and their times from arrival to
    answer; ``inferences`` counts rows, ``executions`` batches. ``queue_ns`` and the compute times
    are summed over requests, as Triton does. ``pending`` requests wait for an executor now.
    ``reruns`` are runs of parts of batches that failed, ``apart`` requests that ran by themselves
    because their client's inputs had failed before.
    """

    success_requests: int = 0
    success_ns: int = 0
    failures: dict[FailureReason, int] = field(default_factory=dict)
    failure_ns: int = 0
    inferences: int = 0
    executions: int = 0
    queue_ns: int = 0
    compute_input_ns: int = 0
    compute_infer_ns: int = 0
    compute_output_ns: int = 0
    cache_hits: int = 0
    cache_hit_ns: int = 0
    cache_misses: int = 0
    cache_miss_ns: int = 0
    #: Computing that hits made unnecessary.
    cache_saved_ns: int = 0
    pending: int = 0
    reruns: int = 0
    apart: int = 0
    last_inference_ms: int = 0
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    #: Requests by latency: one count an edge, and one for all above the last.
    latency_counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_EDGES_NS) + 1))

    def answered(self, latency_ns: int) -> None:
        """Count one request that was answered."""
        self.success_requests += 1
        self.success_ns += latency_ns
        self.latency_counts[bisect_left(LATENCY_EDGES_NS, latency_ns)] += 1

    def failed(self, reason: FailureReason, latency_ns: int = 0) -> None:
        """Count one request that was not."""
        self.failures[reason] = self.failures.get(reason, 0) + 1
        self.failure_ns += latency_ns

    def executed(self, size: int, rows: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """Count one batch of ``rows`` rows that ran with size ``size``, padding included."""
        self.inferences += rows
        self.executions += 1
        batch = self.batches.get(size)
        if batch is None:
            batch = self.batches[size] = BatchStatistics()
        batch.count += 1
        batch.compute_input_ns += input_ns
        batch.compute_infer_ns += infer_ns
        batch.compute_output_ns += output_ns
