"""The worker process: opens one candidate, and runs it when asked.

It is a program of its own (``python -m hasten.measure.worker``), so that the candidate's threads,
its memory and its crash stay here. It knows no other candidate and compares nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hasten.data import Samples, first_nonfinite
from hasten.errors import HastenError
from hasten.measure.memory import peak_memory_bytes
from hasten.measure.protocol import (
    Fail,
    Measure,
    Open,
    Opened,
    Peak,
    PeakBytes,
    Predict,
    Predicted,
    Reply,
    Times,
    receive_request,
    send,
)
from hasten.runtimes import Arrays, get_runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hasten.graph import Signature
    from hasten.runtimes import Session

__all__ = ["main"]

#: Distinct feeds that are cycled through while measuring: real data, not one lucky sample.
_FEEDS = 8
_PR_SET_PDEATHSIG = 1


class Candidate:
    """The sessions of one candidate and what they are fed."""

    def __init__(self, request: Open) -> None:
        runtime = get_runtime(request.runtime)
        execution = request.execution
        self._signature = request.lowered.signature
        samples = Samples.load(Path(request.samples))
        batch = self._signature.batch or execution.batch
        self._feeds = _first_feeds(samples, self._signature, batch)
        self._batch = batch
        self._sessions = [
            runtime.open(request.lowered, execution) for _ in range(execution.instances)
        ]
        for session in self._sessions:
            session.run(self._feeds[0])

    def measure(self, runs: int, settle: int) -> Times:
        """Run on every instance at once."""
        if len(self._sessions) == 1:
            runs_ns, wall_ns = _timed_runs(self._sessions[0], self._feeds, runs, settle)
            return Times(runs_ns, wall_ns / (runs * self._batch))
        return self._measure_together(runs, settle)

    def _measure_together(self, runs: int, settle: int) -> Times:
        gate = threading.Barrier(len(self._sessions) + 1)
        results: list[tuple[list[int], int]] = []
        failures: list[HastenError] = []

        def serve(session: Session) -> None:
            try:
                _timed_runs(session, self._feeds, 0, settle)
                gate.wait()
                results.append(_timed_runs(session, self._feeds, runs, 0))
            except HastenError as failure:  # handed to the main thread, which raises it
                failures.append(failure)
                gate.abort()

        threads = [threading.Thread(target=serve, args=[one]) for one in self._sessions]
        for thread in threads:
            thread.start()
        with contextlib.suppress(threading.BrokenBarrierError):  # its cause is raised below
            gate.wait()
        begin = time.perf_counter_ns()
        for thread in threads:
            thread.join()
        wall_ns = time.perf_counter_ns() - begin
        if failures:
            raise failures[0]
        items = runs * self._batch * len(self._sessions)
        return Times([ns for runs_ns, _ in results for ns in runs_ns], wall_ns / items)

    def predict(self, request: Predict) -> str | None:
        """Run all samples and write the outputs; names a NaN or infinity among them."""
        samples = Samples.load(Path(request.samples))
        parts: list[Arrays] = []
        for feed, valid in samples.batches(self._signature, request.batch):
            outputs = self._sessions[0].run(feed)
            parts.append({name: _rows(value, valid) for name, value in outputs.items()})
        out = Path(request.out)
        out.mkdir()
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for at, value in enumerate(joined.values()):
            np.save(out / f"{at}.npy", value, allow_pickle=False)
        return first_nonfinite(joined)


def _rows(value: np.ndarray, valid: int) -> np.ndarray:
    """Return the rows that count; bfloat16 as float32, for .npy files know no bfloat16."""
    rows = np.atleast_1d(value)[:valid]
    return rows.astype(np.float32) if rows.dtype.kind == "V" else rows


def _first_feeds(samples: Samples, signature: Signature, batch: int) -> Sequence[Arrays]:
    feeds = []
    for feed, _ in samples.batches(signature, batch):
        feeds.append(feed)
        if len(feeds) == _FEEDS:
            break
    return feeds


def _timed_runs(
    session: Session, feeds: Sequence[Arrays], runs: int, settle: int
) -> tuple[list[int], int]:
    for at in range(settle):
        session.run(feeds[at % len(feeds)])
    clock = time.perf_counter_ns
    times = [0] * runs
    begin = clock()
    for at in range(runs):
        feed = feeds[at % len(feeds)]
        start = clock()
        session.run(feed)
        times[at] = clock() - start
    return times, clock() - begin


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    _die_with_parent()
    gc.disable()  # a collection inside a timed run would be charged to the candidate
    requests = os.fdopen(int(sys.argv[1]), "rb")
    replies = os.fdopen(int(sys.argv[2]), "wb")
    candidate: Candidate | None = None
    while True:
        try:
            request = receive_request(requests)
        except EOFError:
            break
        try:
            reply, candidate = _answer(request, candidate)
        except HastenError as error:
            reply = Fail(str(error))
        except MemoryError:
            reply = Fail("ran out of memory")
        send(replies, reply)
    # Some runtimes crash while the interpreter takes them apart; there is nothing left to save.
    os._exit(0)


def _answer(
    request: Open | Measure | Predict | Peak, candidate: Candidate | None
) -> tuple[Reply, Candidate | None]:
    if isinstance(request, Open):
        begin = time.perf_counter_ns()
        candidate = Candidate(request)
        return Opened(time.perf_counter_ns() - begin), candidate
    if isinstance(request, Peak):
        return PeakBytes(peak_memory_bytes()), candidate
    if candidate is None:
        return Fail("nothing is open"), None
    if isinstance(request, Measure):
        return candidate.measure(request.runs, request.settle), candidate
    return Predicted(candidate.predict(request)), candidate


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies: a stopped worker reads no pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)


if __name__ == "__main__":
    main()
