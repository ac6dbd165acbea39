"""Batches through a session: gathered into memory that is used again, run, and copied out."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from hasten.runtimes import Arrays, Binding, Execution, Lowered, Runtime, Session, bind
from hasten.serve.engine.made_up import MadeUp
from hasten.serve.engine.request import Batch, BatchResult

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Runner"]

#: Runs to time one batch size with, and the time after which they end.
_TIMED_RUNS = 8
_TIMED_NS = 60_000_000
#: Above this a runtime that takes an array where it lies is given the request's own.
_LARGE_BYTES = 65_536


class Runner:
    """What one executor runs with: a session, or one for each batch size where that is cheaper.

    With ``batched`` the first axis is the batch, and requests are joined along it. It is timed with
    inputs that are ``made_up``. One thread at a time may call it.
    """

    def __init__(
        self,
        runtime: Runtime,
        lowered: Lowered,
        execution: Execution,
        *,
        batched: bool,
        made_up: MadeUp | None = None,
    ) -> None:
        self._made_up = made_up or MadeUp()
        self._runtime = runtime
        self._lowered = lowered
        self._execution = execution
        self._batched = batched
        self._names = [spec.name for spec in lowered.signature.inputs]
        self._outputs = [spec.name for spec in lowered.signature.outputs]
        self._sessions: dict[int, Session] = {}
        self._bindings: dict[int, Binding] = {}
        self._prepared: set[int] = set()

    def prepare(self, size: int) -> None:
        """Open what a batch of this size needs."""
        if size in self._bindings:
            return
        self._prepared.add(size)
        if not self._batched and any(None in spec.shape for spec in self._lowered.signature.inputs):
            return  # each request has shapes of its own
        binding = bind(self._session(size), self._lowered.signature, size)
        if binding is not None:
            feed = self._feed(size)
            for buffer, name in zip(binding.inputs(), self._names, strict=True):
                np.copyto(buffer, feed[name])
            self._bindings[size] = binding

    def forget(self, size: int) -> None:
        """Free what only batches of this size needed."""
        self._bindings.pop(size, None)
        self._prepared.discard(size)
        if not self._runtime.any_batch:
            session = self._sessions.pop(size, None)
            if session is not None:
                session.close()

    def time(self, size: int) -> int:
        """Return the nanoseconds of one run of this size: the least of a few.

        What else runs on the machine only adds, and a size must not look worse for it.
        """
        binding = self._bindings.get(size)
        feed = None if binding else self._feed(size)
        times: list[int] = []
        for _ in range(_TIMED_RUNS):
            before = perf_counter_ns()
            if binding is not None:
                binding.run()
            elif feed is not None:
                self._session(size).run(feed)
            times.append(perf_counter_ns() - before)
            if sum(times) > _TIMED_NS:
                break
        return min(times)

    def run(self, batch: Batch) -> None:
        """Run a batch and leave its result and times in it; raises RuntimeFailureError."""
        begin = perf_counter_ns()
        binding = self._bindings.get(batch.size)
        if binding is None or self._is_large(batch):
            self._run_unbound(batch, begin)
            return
        self._gather(batch, binding.inputs())
        ready = perf_counter_ns()
        binding.run()
        done = perf_counter_ns()
        rows = batch.rows
        if self._batched:
            outputs = tuple(array[:rows].copy() for array in binding.outputs())
        else:
            outputs = tuple(array.copy() for array in binding.outputs())
        batch.result = BatchResult(outputs, batched=self._batched)
        batch.input_ns, batch.run_ns = ready - begin, done - ready
        batch.output_ns = perf_counter_ns() - done

    def _is_large(self, batch: Batch) -> bool:
        """Whether one request is all of it, so large that copying it in and out is worth saving."""
        if not self._runtime.any_batch or len(batch.requests) > 1 or batch.rows < batch.size:
            return False
        return sum(array.nbytes for array in batch.requests[0].inputs) > _LARGE_BYTES

    @staticmethod
    def _gather(batch: Batch, buffers: Sequence[np.ndarray]) -> None:
        """Fill all rows of the buffers from this batch; what pads it is a copy of its first row.

        What an earlier batch left there could make this one fail: an index out of range, a zero
        that is divided by.
        """
        requests, rows = batch.requests, batch.rows
        if len(requests) == 1 and rows == batch.size:
            for buffer, array in zip(buffers, requests[0].inputs, strict=True):
                np.copyto(buffer, array)
            return
        for at, buffer in enumerate(buffers):
            np.concatenate([one.inputs[at] for one in requests], out=buffer[:rows])
            if rows < batch.size:
                buffer[rows:] = buffer[0]

    def _run_unbound(self, batch: Batch, begin: int) -> None:
        requests = batch.requests
        if len(requests) == 1:
            feed = dict(zip(self._names, requests[0].inputs, strict=True))
        else:
            feed = {
                name: np.concatenate([one.inputs[at] for one in requests])
                for at, name in enumerate(self._names)
            }
        batch.size = batch.rows
        ready = perf_counter_ns()
        answer = self._session(batch.size).run(feed)
        done = perf_counter_ns()
        outputs = tuple(answer[name] for name in self._outputs)
        batch.result = BatchResult(outputs, batched=self._batched)
        batch.input_ns, batch.run_ns = ready - begin, done - ready
        batch.output_ns = perf_counter_ns() - done

    def _feed(self, size: int) -> Arrays:
        return self._made_up.feed(self._lowered.signature, size)

    def _session(self, size: int) -> Session:
        # Sizes that nobody prepared for share a session, which takes each as it comes.
        key = size if size in self._prepared and not self._runtime.any_batch else 0
        session = self._sessions.get(key)
        if session is None:
            session = self._runtime.open(self._lowered, self._execution)
            self._sessions[key] = session
        return session

    def stop(self, *, asked: bool) -> None:
        """Have runs fail until this is called with ``asked`` False, where the runtime can do so.

        Any thread may call it.
        """
        for session in list(self._sessions.values()):
            stop = getattr(session, "stop", None)
            if stop is not None:
                stop(asked=asked)

    def close(self) -> None:
        """Free all sessions."""
        self._bindings.clear()
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
