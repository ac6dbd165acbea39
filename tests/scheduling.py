"""Requests for a scheduler that no clock and no runtime drives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from hasten.errors import HastenError
from hasten.serve.engine.batch_times import BatchTimes
from hasten.serve.engine.request import Batch, BatchResult, Request
from hasten.serve.engine.scheduler import Scheduler
from hasten.serve.engine.settings import ServingSettings

__all__ = [
    "MS",
    "admitted",
    "finish",
    "keep_up",
    "made",
    "scheduler",
    "settings_of",
    "taken",
    "times_of",
]

#: A millisecond in nanoseconds.
MS = 1_000_000


def _unheard(request: Request, result: BatchResult | HastenError, start: int) -> None:
    raise AssertionError("a scheduler answers nobody")


def made(
    arrival_ns: int = 0, *, rows: int = 1, key: object = (), priority: int = 0, deadline: int = 0
) -> Request:
    """A request of so many rows."""
    request = Request((np.zeros((rows, 1)),), rows, key, _unheard, arrival_ns)
    request.priority = priority
    if deadline:
        request.deadline_ns = deadline
    return request


def settings_of(batching: Mapping[str, Any] | None = None, **more: Any) -> ServingSettings:
    """Settings from their JSON form."""
    document = {"dynamic_batching": dict(batching or {}), **more}
    return msgspec.convert(document, ServingSettings, str_keys=True)


def times_of(fixed_ns: float, row_ns: float, sizes: tuple[int, ...]) -> BatchTimes:
    """Times of batches that grow by so much a row."""
    times = BatchTimes()
    for size in sizes:
        times.observe(size, fixed_ns + size * row_ns)
    return times


def scheduler(
    batching: Mapping[str, Any] | None = None,
    *,
    sizes: tuple[int, ...] = (1, 2, 4, 8),
    fixed_ns: float = MS,
    row_ns: float = 0.0,
    executors: int = 1,
    **more: Any,
) -> Scheduler:
    """A scheduler that knows how long batches take: no time a row, unless it is told."""
    times = times_of(fixed_ns, row_ns, sizes)
    return Scheduler(settings_of(batching, **more), sizes, executors=executors, times=times)


def finish(one: Scheduler, batch: Batch, end_ns: int) -> None:
    """Tell that a batch was run."""
    batch.end_ns = end_ns
    one.finished(batch)


def admitted(one: Scheduler, *requests: Request) -> list[Request]:
    for request in requests:
        one.admit(request, request.arrival_ns)
    return list(requests)


def taken(one: Scheduler, now_ns: int = 0) -> list[Request]:
    batch = one.take(now_ns)
    return batch.requests if batch else []


def keep_up(one: Scheduler, requests: int) -> None:
    """Admit a request a millisecond, and run each within it."""
    for now in range(0, requests * MS, MS):
        admitted(one, made(now))
        batch = one.take(now)
        assert batch is not None
        finish(one, batch, now + MS)
