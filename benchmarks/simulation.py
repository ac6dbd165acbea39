"""The scheduler under Poisson arrivals and batch times of a + b*c, and what theory says of it.

Source of the bound: Inoue, "Queueing Analysis of GPU-Based Inference Servers with Dynamic
Batching: A Closed-Form Characterization", arXiv 1912.06322.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hasten.errors import HastenError
from hasten.serve.engine.batch_times import BatchTimes
from hasten.serve.engine.request import BatchResult, Request
from hasten.serve.engine.scheduler import Scheduler
from hasten.serve.engine.settings import ServingSettings

__all__ = ["Load", "MeanLatency", "mean_latency"]

#: A batch so much larger than a load's mean one never comes.
_SPARE = 8
_SMALLEST = 64
#: Long enough to know little of one another, and enough to see how they differ.
_PARTS = 20


class Load(NamedTuple):
    """``fixed_ns`` a batch and ``row_ns`` a row in it, of which ``utilization`` is the rows' share.

    A load of 0.8 has requests arrive so often that rows alone keep the executor busy 80 % of the
    time.
    """

    fixed_ns: float
    row_ns: float
    utilization: float

    @property
    def rate(self) -> float:
        """Arrivals a nanosecond."""
        return self.utilization / self.row_ns

    @property
    def bound_ns(self) -> float:
        """What the mean latency of batching while busy is not above, whatever the batch size."""
        fixed, row, busy = self.fixed_ns, self.row_ns, self.utilization
        due = self.rate * fixed
        first = (row + fixed) / (2 * (1 - busy)) * (1 + 2 * due + (1 - due) / (1 + busy))
        second = 1.5 * fixed / (1 - busy) + row * (busy + 2) / (2 * (1 - busy**2))
        return min(first, second)


class MeanLatency(NamedTuple):
    """A simulated mean, and its standard error by the means of consecutive parts."""

    mean_ns: float
    error_ns: float


def mean_latency(load: Load, arrivals: int, seed: int) -> MeanLatency:
    """Return the mean time from arrival to the end of the batch, over so many arrivals.

    They come at the load's very rate: near saturation, one that is a thousandth off would move the
    mean by a hundredth.
    """
    gaps = np.random.default_rng(seed).exponential(1, arrivals)
    times_ns = (np.cumsum(gaps) / gaps.mean() / load.rate).astype(np.int64).tolist()
    scheduler = _scheduler(load)
    inputs = (np.zeros(1),)
    at, now = 0, 0
    latencies: list[int] = []
    while len(latencies) < arrivals:
        if not scheduler.waiting:
            now = max(now, times_ns[at])
        while at < arrivals and times_ns[at] <= now:
            scheduler.admit(Request(inputs, 1, (), _unheard, times_ns[at]), times_ns[at])
            at += 1
        batch = scheduler.take(now)
        if batch is None:
            raise AssertionError("an executor is free, and what waits is not run")
        now += int(load.fixed_ns + load.row_ns * batch.size)
        batch.end_ns = now
        scheduler.finished(batch)
        latencies += [now - request.arrival_ns for request in batch.requests]
    parts = [part.mean() for part in np.array_split(np.array(latencies), _PARTS)]
    return MeanLatency(float(np.mean(latencies)), float(np.std(parts, ddof=1) / _PARTS**0.5))


def _scheduler(load: Load) -> Scheduler:
    mean = load.rate * load.fixed_ns / (1 - load.utilization)
    sizes = tuple(range(1, _SMALLEST + int(_SPARE * mean)))
    times = BatchTimes()
    for size in (1, sizes[-1]):
        times.observe(size, load.fixed_ns + load.row_ns * size)
    return Scheduler(ServingSettings(), sizes, times=times)


def _unheard(_: Request, __: BatchResult | HastenError, ___: int) -> None:
    raise AssertionError("a simulation answers nobody")
