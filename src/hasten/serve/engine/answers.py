"""Requests of one model through the response cache, to its lane where there is no answer yet."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from hasten.errors import HastenError
from hasten.serve.engine.cache import Hit, Leads, ResponseCache
from hasten.serve.engine.cache_key import KeyScope
from hasten.serve.engine.cache_worth import CacheWorth
from hasten.serve.engine.request import BatchResult, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from hasten.serve.engine.lane import Lane
    from hasten.serve.engine.source import ModelSource
    from hasten.serve.engine.statistics import ModelStatistics

__all__ = ["Answers"]


class Answers:
    """Looks up, and lets one request compute while its twins wait.

    ``compute_ns`` tells how long so many rows take. Called by the event loop's thread alone.
    """

    def __init__(
        self,
        source: ModelSource,
        cache: ResponseCache[Request],
        lane: Lane,
        statistics: ModelStatistics,
        *,
        batched: bool,
        compute_ns: Callable[[int], float],
    ) -> None:
        self._cache = cache
        self._lane = lane
        self._statistics = statistics
        self._batched = batched
        self._compute_ns = compute_ns
        self._scope = KeyScope(source.name, source.version, source.digest, source.runtime)
        self._worth = CacheWorth()
        self._inputs = [spec.name for spec in source.lowered.signature.inputs]
        self._outputs = [spec.name for spec in source.lowered.signature.outputs]
        #: Requests that have no answer yet.
        self._keys: dict[Request, bytes] = {}
        #: Those that are run for their twins only.
        self._gone: set[Request] = set()

    def submit(self, request: Request, timeout_us: int) -> None:
        """Answer at once, or queue; raises OverloadedError where it is refused."""
        if not self._worth.pays():
            self._lane.submit(request, timeout_us)
            return
        begin = perf_counter_ns()
        inputs = dict(zip(self._inputs, request.inputs, strict=True))
        key = self._scope.key(inputs, self._outputs)
        hashed = perf_counter_ns()
        self._worth.hashed(hashed - begin)
        found = self._cache.begin(key, request)
        statistics = self._statistics
        if isinstance(found, Hit):
            now = perf_counter_ns()
            statistics.cache_hits += 1
            statistics.cache_hit_ns += now - begin
            statistics.cache_saved_ns += found.saved_ns
            statistics.answered(now - request.arrival_ns)
            request.reply(request, BatchResult(found.arrays, batched=self._batched), 0)
            return
        self._keys[request] = key
        if isinstance(found, Leads):
            statistics.cache_misses += 1
            statistics.cache_miss_ns += perf_counter_ns() - begin
            self._lead(request, timeout_us)

    def _lead(self, request: Request, timeout_us: int) -> None:
        """Have a request computed, for itself and its twins."""
        reply = request.reply

        def led(_: Request, result: BatchResult | HastenError, start: int) -> None:
            request.reply = reply
            self._end(request, result, start)

        request.reply = led
        try:
            self._lane.submit(request, timeout_us)
        except HastenError as error:
            request.reply = reply
            for twin in self._cache.fail(self._keys.pop(request)):
                self._tell(twin, error)
            raise

    def _end(self, request: Request, result: BatchResult | HastenError, start: int) -> None:
        key = self._keys.pop(request)
        if isinstance(result, HastenError):
            twins = self._cache.fail(key)
            self._reply(request, result, 0)
            for twin in twins:
                self._tell(twin, result)
            return
        arrays = result.outputs
        if self._batched:
            arrays = tuple(array[start : start + request.rows] for array in arrays)
        cost_ns = self._compute_ns(request.rows)
        self._worth.computed(cost_ns)
        finished = self._cache.finish(key, arrays, int(cost_ns))
        self._reply(request, result, start)
        for twin in finished.waiters:
            del self._keys[twin]
            now = perf_counter_ns()
            self._statistics.cache_hits += 1
            self._statistics.cache_saved_ns += int(cost_ns)
            self._statistics.answered(now - twin.arrival_ns)
            twin.reply(twin, BatchResult(finished.arrays, batched=self._batched), 0)

    def _reply(self, request: Request, result: BatchResult | HastenError, start: int) -> None:
        """Answer the one that was computed, if its client is still there."""
        if request in self._gone:
            self._gone.remove(request)
        else:
            request.reply(request, result, start)

    def _tell(self, twin: Request, error: HastenError) -> None:
        """Tell a twin that what it waited for failed."""
        self._keys.pop(twin, None)
        self._statistics.failed("OTHER", perf_counter_ns() - twin.arrival_ns)
        twin.reply(twin, error, 0)

    def cancel(self, request: Request) -> None:
        """Drop a request; where others wait for its answer, one of them is computed instead."""
        key = self._keys.get(request)
        if key is None:
            self._lane.cancel(request)
            return
        if not request.queued and request.sequence:
            self._gone.add(request)  # it is being run; its twins want the answer
            return
        del self._keys[request]
        follower = self._cache.leave(key, request)
        self._lane.cancel(request)
        if follower is None:
            return
        try:
            self._lead(follower, 0)
        except HastenError as error:
            self._tell(follower, error)
