"""A session that runs in a worker process: a crash there is an error here, and nothing worse."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hasten.errors import RuntimeFailureError
from hasten.runtimes import any_runtime
from hasten.worker.limits import compile_limit_s, run_limit_s
from hasten.worker.process import Worker
from hasten.worker.protocol import Open, Opened, Ran, Run
from hasten.worker.shared_arrays import SharedMemory, new_memory

if TYPE_CHECKING:
    from pathlib import Path

    from hasten.runtimes import Arrays, Execution, Lowered

__all__ = ["WorkerSession", "in_worker"]

T = TypeVar("T")

#: As long as loading a teacher or a module of the user's may take, whose size is not known.
_USUAL_S = 60.0


class WorkerSession:
    """A model that a worker process has open: ``runtimes.Session``, one process away.

    A crash is a RuntimeFailureError with the name of the signal and the last line that the process
    printed, and so is every run after it. To start one takes some 0.3 s: keep it for many runs, and
    for many models, one after the other.
    """

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        # One for feeds, two for outputs in turn: one is read while the other is written.
        self._descriptors = tuple(new_memory(scratch) for _ in range(3))
        self._memories = [SharedMemory(one) for one in self._descriptors]
        try:
            self._worker = Worker(scratch, shared=self._descriptors)
        except BaseException:
            self._close_memory()
            raise
        self._opening = self._running = False
        self._turn = 1
        self._file_bytes = 0
        self._usual_s = self._limit_s = 0.0

    def open(self, runtime: str, lowered: Lowered, execution: Execution) -> None:
        """Compile a model in the place of the one before, while the caller goes on.

        What goes wrong in it is said by the next run.
        """
        self._await_opened()
        self._file_bytes = lowered.size_bytes
        self._usual_s = max(any_runtime(runtime).open_s, 0.0 if lowered.path else _USUAL_S)
        self._worker.begin(Open(runtime, lowered, execution, "", sys.path))
        self._opening = True

    def ready(self) -> None:
        """Wait until the model is compiled; raises RuntimeFailureError where it cannot be."""
        self._await_opened()

    @property
    def gone(self) -> bool:
        """Whether the process has ended: it crashed, or passed its limits."""
        return self._worker.gone

    def run(self, feed: Arrays) -> Arrays:
        """Run once; all outputs, in the model's order. They are the caller's own."""
        self._begin(feed)
        return {name: np.array(value) for name, value in self._end().items()}

    def stream(self, batches: Iterable[tuple[Arrays, T]]) -> Iterator[tuple[Arrays, T, Arrays]]:
        """Run on each feed, one ahead of the caller; yield the feeds in order with their outputs.

        What comes beside a feed, as ``Samples.batches`` says how many rows count, is handed on. The
        outputs lie in memory that is used again: they hold until the next are asked for. Meanwhile
        nothing else may be run.
        """
        before: tuple[Arrays, T] | None = None
        try:
            for feed, told in batches:
                outputs = self._end() if before is not None else {}
                self._begin(feed)
                if before is not None:
                    yield *before, outputs
                before = feed, told
            if before is not None:
                yield *before, self._end()
        finally:
            if self._running:  # the caller has left: the next run must not get this one's answer
                with suppress(RuntimeFailureError):
                    self._end()

    def close(self) -> None:
        """End the process and give its memory back; harmless where that was done."""
        self._worker.close()
        self._close_memory()

    def _begin(self, feed: Arrays) -> None:
        self._await_opened()
        self._turn = 2 if self._turn == 1 else 1
        places = self._memories[0].write(feed)
        fed_bytes = sum(place.size for place in places)
        self._limit_s = run_limit_s(self._file_bytes, fed_bytes) + self._usual_s
        self._worker.begin(Run(places, self._descriptors[0], self._descriptors[self._turn]))
        self._running = True

    def _await_opened(self) -> None:
        if self._opening:
            self._opening = False
            limit_s = compile_limit_s(self._file_bytes, self._usual_s)
            self._worker.answer(Opened, limit_s, "compiling")

    def _end(self) -> Arrays:
        self._running = False
        ran = self._worker.answer(Ran, self._limit_s, "running")
        return self._memories[self._turn].read(ran.outputs)

    def _close_memory(self) -> None:
        self._memories.clear()  # what was read of them keeps its own mapping
        descriptors, self._descriptors = self._descriptors, ()
        for one in descriptors:
            os.close(one)


@contextmanager
def in_worker(
    runtime: str, lowered: Lowered, execution: Execution, scratch: Path
) -> Iterator[WorkerSession]:
    """Open a model in a worker process for a while."""
    session = WorkerSession(scratch)
    try:
        session.open(runtime, lowered, execution)
        yield session
    finally:
        session.close()
