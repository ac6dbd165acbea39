"""An executor: a thread with a runner, which may be lost in a run that does not end."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import perf_counter_ns
from typing import TYPE_CHECKING

from hasten.errors import ExecutionLimitError, HastenError
from hasten.runtimes.vendor import reported
from hasten.serve.engine.halves import run_in_halves

if TYPE_CHECKING:
    from collections.abc import Callable

    from hasten.serve.engine.request import Batch
    from hasten.serve.engine.runner import Runner

__all__ = ["Executor", "run_alone", "too_long"]

_RUNNING = reported("the batch could not be run")
#: Parts of a batch that was stopped at its limit are stopped after this part of it.
_REST = 10
#: A run that was told to end has so long until its executor is given up.
_OBEYS_NS = 1_000_000_000


class Executor:
    """Runs the batches that it is given, one at a time; its thread starts with the first.

    After each, ``ended`` is called by the thread and may return another. The loop's thread looks
    at ``since_ns``, when the run that goes on began or 0, and stops one that takes too long. A
    thread in native code that does not obey cannot be ended: it is ``lost`` until it comes back.
    """

    def __init__(
        self,
        name: str,
        runner: Runner,
        ended: Callable[[Executor, Batch], Batch | None],
        size_of: Callable[[int], int],
        limit_ns: int,
    ) -> None:
        self.runner = runner
        self.batch: Batch | None = None
        self.since_ns = 0
        self.whole_limit_ns = self.limit_ns = limit_ns
        self.lost = False
        self._stopped_since_ns = self._stopped_at_ns = 0
        self._stopping = threading.Lock()
        self._abandoned = False
        self._ended = ended
        self._size_of = size_of
        self._inbox: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"hasten-{name}", daemon=True)

    # Called by the loop's thread.

    def give(self, batch: Batch) -> None:
        """Have a batch run."""
        self.batch = batch
        if not self._thread.is_alive():
            self._thread.start()
        self._inbox.put(batch)

    def overdue_ns(self, now_ns: int) -> int:
        """Stop a run that passed its limit; return when to look again, 0 where it did not obey."""
        since = self.since_ns
        if not since:
            return now_ns + self.whole_limit_ns
        if now_ns < since + self.limit_ns:
            return since + self.limit_ns
        if self._stopped_since_ns != since:
            with self._stopping:
                self._stopped_since_ns, self._stopped_at_ns = since, now_ns
                self.runner.stop(asked=True)
        until = self._stopped_at_ns + _OBEYS_NS
        return until if now_ns < until else 0

    def end(self) -> None:
        """Take no more; one that is lost frees its runner if ever it comes back."""
        self._abandoned = self.lost
        self._inbox.put(None)

    def join(self) -> None:
        """Wait for the thread and free the runner, but for one that is lost."""
        if self._abandoned:
            return
        if self._thread.is_alive():
            self._thread.join()
        self.runner.close()

    # Called by the thread.

    def _work(self) -> None:
        while (batch := self._inbox.get()) is not None:
            following: Batch | None = batch
            while following is not None:
                self.batch = following
                self._run(following)
                following = self._ended(self, following)
        if self._abandoned:
            self.runner.close()

    def _run(self, batch: Batch) -> None:
        """Run a batch, or its parts where it fails."""
        batch.error = batch.error or self._error_of(batch)
        if batch.error is not None and len(batch.requests) > 1:
            if isinstance(batch.error, ExecutionLimitError):
                self.limit_ns = self.whole_limit_ns // _REST
            run_in_halves(batch, self._error_of, self._size_of)
            self.limit_ns = self.whole_limit_ns
        batch.end_ns = perf_counter_ns()

    def _error_of(self, batch: Batch) -> HastenError | None:
        since = self.since_ns = perf_counter_ns()
        error = run_alone(self.runner, batch)
        self.since_ns = 0
        while self._stopped_since_ns:
            with self._stopping:
                stopped, self._stopped_since_ns = self._stopped_since_ns, 0
                self.runner.stop(asked=False)
            if error is None:
                continue
            if stopped == since:
                return too_long(self.limit_ns)
            # It was told to end while it ended, and this one met it.
            error = run_alone(self.runner, batch)
        return error


def too_long(limit_ns: int) -> ExecutionLimitError:
    """Return the answer to requests whose run passed its limit."""
    return ExecutionLimitError(f"Expected a run of at most {limit_ns / 1e6:g} ms, got a longer one")


def run_alone(runner: Runner, batch: Batch) -> HastenError | None:
    """Run a batch once, and return what went wrong: that is the answer of its requests."""
    try:
        with _RUNNING:
            runner.run(batch)
    except HastenError as error:
        return error
    return None
