"""The worker process: opens one candidate, and runs it when asked.

It is a program of its own (``python -m hasten.worker.worker``), so that the candidate's threads,
its memory and its crash stay here. It knows no other candidate and compares nothing.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hasten.data import Samples
from hasten.data.answers import RunWriter
from hasten.errors import HastenError
from hasten.runtimes import Arrays, Placement, Placing, any_runtime
from hasten.runtimes.vendor import reported
from hasten.worker.limits import let_grow
from hasten.worker.memory import peak_memory_bytes
from hasten.worker.protocol import (
    Clean,
    Cleaned,
    Fail,
    Locate,
    Located,
    Measure,
    Open,
    Opened,
    Predict,
    Predicted,
    Ran,
    Reply,
    Request,
    Run,
    Times,
    receive_request,
    send,
)
from hasten.worker.shared_arrays import SharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from hasten.graph import Signature
    from hasten.runtimes import Session

__all__ = ["Candidate", "main"]

T = TypeVar("T")

#: Distinct feeds that are cycled through while measuring: real data, not one lucky sample.
_FEEDS = 8
_PR_SET_PDEATHSIG = 1


class Candidate:
    """The sessions of one candidate and what they are fed."""

    def __init__(self, request: Open) -> None:
        runtime = any_runtime(request.runtime)
        execution = request.execution
        self._file_bytes = request.lowered.size_bytes
        self._on_cpu = execution.device == "cpu"
        self._may_grow(0)
        self._signature = request.lowered.signature
        self._batch = self._signature.batch or execution.batch
        self._feeds: Sequence[Arrays] = ()
        if request.samples:
            samples = Samples.load(Path(request.samples))
            self._feeds = _first_feeds(samples, self._signature, execution.batch)
            self._may_grow(execution.instances * max(map(_fed_bytes, self._feeds), default=0))
        self._sessions = [
            runtime.open(request.lowered, execution) for _ in range(execution.instances)
        ]
        self._threads = _threads(len(self._sessions))

    def measure(self, runs: int, settle: int) -> Times:
        """Run on every instance at once."""
        self._on_every_session(lambda session: _run(session, self._feeds, settle))
        begin = time.perf_counter_ns()
        runs_ns = self._on_every_session(lambda session: _run(session, self._feeds, runs))
        wall_ns = time.perf_counter_ns() - begin
        items = runs * self._batch * len(self._sessions)
        return Times([ns for one in runs_ns for ns in one], wall_ns / items, peak_memory_bytes())

    def _on_every_session(self, work: Callable[[Session], T]) -> list[T]:
        if not self._threads:
            return [work(session) for session in self._sessions]
        futures = [
            thread.submit(work, session)
            for thread, session in zip(self._threads, self._sessions, strict=True)
        ]
        return [future.result() for future in futures]

    def _may_grow(self, fed_bytes: int) -> None:
        """Allow memory for a feed; a driver of another device reserves far more than it takes."""
        if self._on_cpu:
            let_grow(self._file_bytes, fed_bytes)

    def locate(self) -> Placement | None:
        """Return where operators run, where the runtime tells."""
        session = self._sessions[0]
        return session.placement() if isinstance(session, Placing) else None

    def run(self, request: Run) -> Ran:
        """Run the first session on arrays that the parent has written, and write the outputs."""
        self._may_grow(sum(place.size for place in request.feed))
        outputs = self._sessions[0].run(_shared(request.source).read(request.feed))
        return Ran(_shared(request.target).write(outputs), peak_memory_bytes())

    def predict(self, request: Predict) -> None:
        """Run all samples and write what each run answered."""
        samples = Samples.load(Path(request.samples))
        alone = samples.per_feed(self._signature) or request.batch
        writer = RunWriter(Path(request.out))
        for at, (feed, _) in enumerate(samples.batches(self._signature, request.batch)):
            left = len(samples) - at * alone
            self._may_grow(_fed_bytes(feed))
            writer.add(self._sessions[0].run(feed), min(alone, left))
        writer.close()


def _fed_bytes(feed: Arrays) -> int:
    return sum(array.nbytes for array in feed.values())


@cache
def _shared(descriptor: int) -> SharedMemory:
    os.set_inheritable(descriptor, False)
    return SharedMemory(descriptor)


def _threads(count: int) -> list[ThreadPoolExecutor]:
    """One thread a session; none where there is only one, which the main thread runs.

    A session stays with its thread: OpenMP has a pool of threads for each that calls it.
    """
    if count == 1:
        return []
    from concurrent.futures import ThreadPoolExecutor  # slow to import, and seldom needed

    return [ThreadPoolExecutor(1) for _ in range(count)]


def _first_feeds(samples: Samples, signature: Signature, batch: int) -> Sequence[Arrays]:
    if signature.batch is not None:
        return [feed for feed, _ in islice(samples.batches(signature, batch), _FEEDS)]
    # Where samples do not fill a batch they are repeated: a smaller one would time something else.
    starts = range(0, len(samples), batch)[:_FEEDS]
    around = [(start + np.arange(batch)) % len(samples) for start in starts]
    return [samples.feed(signature, indices) for indices in around]


def _run(session: Session, feeds: Sequence[Arrays], runs: int) -> list[int]:
    clock = time.perf_counter_ns
    times = [0] * runs
    for at in range(runs):
        feed = feeds[at % len(feeds)]
        start = clock()
        session.run(feed)
        times[at] = clock() - start
    return times


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    requests_fd, replies_fd, parent = map(int, sys.argv[1:])
    _die_with(parent)
    for pipe in (requests_fd, replies_fd):  # a child that outlives a crash would hide it
        os.set_inheritable(pipe, False)
    gc.disable()  # a collection inside a timed run would be charged to the candidate
    requests, replies = os.fdopen(requests_fd, "rb"), os.fdopen(replies_fd, "wb")
    candidate: Candidate | None = None
    while True:
        try:
            request = receive_request(requests)
        except EOFError:
            break
        try:
            with reported("the worker process failed"):
                if isinstance(request, Open):
                    candidate = None  # its memory is free before the next takes some
                reply, candidate = _answer(request, candidate)
        except HastenError as error:
            reply = Fail(str(error))
        send(replies, reply)
    # Some runtimes crash while the interpreter takes them apart; there is nothing left to save.
    os._exit(0)


def _answer(request: Request, candidate: Candidate | None) -> tuple[Reply, Candidate | None]:
    if isinstance(request, Open):
        sys.path[:] = request.module_path
        begin = time.perf_counter_ns()
        candidate = Candidate(request)
        return Opened(time.perf_counter_ns() - begin, peak_memory_bytes()), candidate
    if isinstance(request, Clean):
        return _clean(request), candidate
    if candidate is None:
        return Fail("nothing is open"), None
    return _told(request, candidate), candidate


def _told(request: Measure | Locate | Run | Predict, candidate: Candidate) -> Reply:
    if isinstance(request, Measure):
        return candidate.measure(request.runs, request.settle)
    if isinstance(request, Locate):
        return Located(candidate.locate(), peak_memory_bytes())
    if isinstance(request, Run):
        return candidate.run(request)
    candidate.predict(request)
    return Predicted(peak_memory_bytes())


def _clean(request: Clean) -> Cleaned:
    from hasten.worker.cleaning import clean_file  # which other candidates need not wait for

    refusal = clean_file(request, _shared(request.source).read(request.feed))
    return Cleaned(refusal, peak_memory_bytes())


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies: a stopped worker reads no pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request was made
            os._exit(1)


if __name__ == "__main__":
    main()
