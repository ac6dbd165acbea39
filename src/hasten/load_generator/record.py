"""What one run left behind: times from the intended send, misses, and the generator's own lag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import reduce

import msgspec

from hasten.load_generator.histogram import Histogram

__all__ = ["Answer", "Record"]

#: Lag that does not matter beside any server over a socket, and the share of p99 it may be else.
_ALLOWED_LAG_NS = 250_000
_ALLOWED_LAG_SHARE = 0.1
_BUSY = 0.97


class Answer(msgspec.Struct, frozen=True):
    """A distinct answer to one request of the pool, and how often it came.

    ``json_bytes`` is what the header Inference-Header-Content-Length said, None without one.
    """

    request: int
    json_bytes: int | None
    body: bytes
    count: int


class Record(msgspec.Struct):
    """One run, as the generator saw it.

    ``latency`` is timed from the intended send to the last byte, ``service`` from the actual send,
    and ``lag`` is what lay between the two by the generator's own fault: a request that waited for
    a free connection does not lag, the server does. ``misses`` counts by kind the requests that
    were not answered well. ``ended_in_window`` were answered before the last one was sent.
    """

    latency: Histogram
    service: Histogram
    lag: Histogram
    misses: dict[str, int] = {}
    first_problem: str = ""
    issued: int = 0
    ended_in_window: int = 0
    window_ns: int = 0
    elapsed_ns: int = 0
    busy_share: float = 0.0
    connections: int = 0
    paced: bool = False
    gave_up: bool = False
    answers: list[Answer] = []
    unchecked: int = 0

    @classmethod
    def empty(cls) -> Record:
        """Return the record of a run that has not begun."""
        return cls(Histogram(), Histogram(), Histogram(), misses={}, answers=[])

    @classmethod
    def of(cls, runs: Sequence[Record]) -> Record:
        """Return one record of several runs against the same server."""
        whole = reduce(Histogram.merged, (run.latency for run in runs))
        misses: Counter[str] = Counter()
        answers: Counter[tuple[int, int | None, bytes]] = Counter()
        for run in runs:
            misses.update(run.misses)
            for one in run.answers:
                answers[one.request, one.json_bytes, one.body] += one.count
        window_ns = sum(run.window_ns for run in runs)
        return cls(
            latency=whole,
            service=reduce(Histogram.merged, (run.service for run in runs)),
            lag=reduce(Histogram.merged, (run.lag for run in runs)),
            misses=dict(misses),
            first_problem=next((run.first_problem for run in runs if run.first_problem), ""),
            issued=sum(run.issued for run in runs),
            ended_in_window=sum(run.ended_in_window for run in runs),
            window_ns=window_ns,
            elapsed_ns=sum(run.elapsed_ns for run in runs),
            busy_share=sum(run.busy_share * run.window_ns for run in runs) / max(window_ns, 1),
            connections=max(run.connections for run in runs),
            paced=any(run.paced for run in runs),
            gave_up=any(run.gave_up for run in runs),
            answers=[Answer(*key, count) for key, count in answers.items()],
            unchecked=sum(run.unchecked for run in runs),
        )

    @property
    def answered(self) -> int:
        """Requests that were answered with status 200, on time or late."""
        return self.latency.count

    @property
    def missed(self) -> int:
        """Requests that failed, were refused or were given up."""
        return sum(self.misses.values())

    @property
    def rate_per_s(self) -> float:
        """Good answers a second while requests were being sent."""
        return self.ended_in_window * 1e9 / max(self.window_ns, 1)

    def percentile_ms(self, percent: float) -> float | None:
        """Return a percentile of the latency of all requests in ms; None where it is a miss."""
        found = self.latency.percentile(percent, beyond=self.missed)
        return None if found is None else found / 1e6

    def void(self, goal_ns: int = 0) -> str:
        """Why this run says nothing of the server; empty where it does.

        Lag is part of the latency, so little of it beside the latency, or beside the goal that the
        latency is held to, does no harm.
        """
        if self.issued == 0:
            return "no request was sent"
        lag_ns = self.lag.percentile(99) if self.paced else None
        latency_ns = self.latency.percentile(99) or 0
        allowed_ns = max(_ALLOWED_LAG_NS, _ALLOWED_LAG_SHARE * max(latency_ns, goal_ns))
        if lag_ns is None or lag_ns <= allowed_ns:
            return ""
        return (
            f"the generator lagged: 1 % of the requests were sent {lag_ns / 1e6:.3g} ms or more"
            f" after their time (p99 of the latency: {latency_ns / 1e6:.3g} ms); give it a core of"
            " its own, or a lower rate"
        )

    @property
    def note(self) -> str:
        """What limits the figure, where it may be the generator itself; else empty."""
        if self.paced or self.busy_share < _BUSY:
            return ""
        return (
            f"the generator was busy for {self.busy_share:.0%} of the time: a faster server"
            " would not show"
        )
