"""One version of one model, ready to answer: its signature, its lane and what it has done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.errors import InvalidRequestError
from hasten.serve.engine.answers import Answers
from hasten.serve.engine.lane import Lane
from hasten.serve.engine.opening import OpenedModel, uniform
from hasten.serve.engine.ordering import Ordering
from hasten.serve.engine.padding import Entry, Padding
from hasten.serve.engine.reshape import Reshape
from hasten.serve.engine.scheduler import Scheduler
from hasten.serve.engine.statistics import ModelStatistics

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    import numpy as np

    from hasten.serve.engine.cache import ResponseCache
    from hasten.serve.engine.request import Request

__all__ = ["ServedModel"]

#: Rows of one request, where the settings give no limit.
_MOST_ROWS = 1024


class ServedModel:
    """What front ends call. Made, called and closed by the event loop's thread.

    ``max_rows`` is the most rows of one request; 0 where the model does not batch and inputs have
    the signature's own shapes.
    """

    def __init__(
        self,
        opened: OpenedModel,
        loop: asyncio.AbstractEventLoop,
        cache: ResponseCache[Request] | None = None,
    ) -> None:
        source = opened.source
        self.source = source
        self.name = source.name
        self.version = source.version
        self.signature = source.signature
        self.settings = source.settings
        self.execution = opened.choice.execution
        #: How others compare that were timed against this execution; empty where none was.
        self.choice = opened.choice.reason
        self.batched = opened.batched
        #: What is known of its rows, and what there is to say of how it is served.
        self.rows = opened.rows
        self.notes = opened.notes
        self.inline = opened.inline is not None
        self.sizes = opened.warmed.sizes
        self.executors = len(opened.runners)
        self.max_rows = (source.settings.max_batch_size or _MOST_ROWS) if opened.batched else 0
        self.statistics = ModelStatistics()
        #: Whether all requests have the same shapes but for the batch.
        self.uniform = uniform(self.signature, batched=opened.batched)
        self.scheduler = Scheduler(
            source.settings,
            opened.warmed.sizes,
            executors=len(opened.runners),
            times=opened.warmed.times,
        )
        self._lane = Lane(
            f"{source.name}-{source.version}",
            loop,
            self.scheduler,
            opened.runners,
            self.statistics,
            inline=opened.inline,
            limit_ns=opened.limit_ns,
            warm=opened.warmed.times.known,
        )

        entry: Entry = self._lane
        if cache is not None and source.settings.response_cache:
            entry = Answers(
                source,
                cache,
                self._lane,
                self.statistics,
                batched=opened.batched,
                compute_ns=lambda rows: self.scheduler.times.expect(self.scheduler.size_of(rows)),
            )
        self._padding: Padding | None = None
        if source.settings.length_buckets is not None and opened.batched:
            entry = self._padding = Padding(source.settings.length_buckets, self.signature, entry)
        own = source.lowered.signature
        if self.signature != own:
            entry = Reshape(self.signature, own, entry, batched=opened.batched)
        if source.settings.batching.preserve_ordering:
            entry = Ordering(entry)
        #: Queue a request, or answer it from the cache; the second argument is its own timeout in
        #: microseconds, 0 for none. Raises a RequestError where it is refused at once.
        self.submit: Callable[[Request, int], None] = entry.submit
        #: Drop a request whose answer nobody waits for any more.
        self.cancel: Callable[[Request], None] = entry.cancel

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._lane.waiting

    @property
    def trouble(self) -> str:
        """Why the model is not ready; empty where it is."""
        return self._lane.trouble

    def describe(self) -> str:
        """Return a line on how the model is served."""
        words = [f"{self.name} {self.version}", f"{self.source.runtime} {self.execution}"]
        if self.choice:
            words[-1] += f" ({self.choice})"
        if self.batched:
            words.append(f"batches of up to {self.scheduler.cap}")
        where = "on the event loop's thread" if self.inline else f"{self.executors} executor(s)"
        return "; ".join([", ".join([*words, where]), *self.notes])

    def rows_of(self, shapes: tuple[tuple[int, ...], ...]) -> int:
        """Return the rows of a request, or raise InvalidRequestError where shapes do not fit."""
        specs = self.signature.inputs
        for spec, shape in zip(specs, shapes, strict=True):
            if not spec.fits(shape):
                raise InvalidRequestError(
                    f"Expected {spec}, got shape {list(shape)} for input '{spec.name}'"
                )
        if not self.batched:
            return 1
        rows = shapes[0][0]
        if any(shape[0] != rows for shape in shapes):
            raise InvalidRequestError(
                f"Expected inputs of one batch size, got {[shape[0] for shape in shapes]}"
            )
        if not 1 <= rows <= self.max_rows:
            raise InvalidRequestError(
                f"Expected a batch size from 1 to {self.max_rows}, got {rows}"
                f" for model '{self.name}'"
            )
        return rows

    def implied(self, shapes: Mapping[int, tuple[int, ...]]) -> dict[int, np.ndarray]:
        """Return inputs that a request may leave out, and this one has, by their place."""
        return {} if self._padding is None else self._padding.implied(shapes)

    def priority_of(self, wished: int) -> int:
        """Return the priority of a request that asks for this one; 0 asks for none."""
        batching = self.settings.batching
        if not batching.priority_levels:
            return 0
        if wished > batching.priority_levels or wished < 0:
            raise InvalidRequestError(
                f"Expected a priority from 1 to {batching.priority_levels}, got {wished}"
            )
        return wished or batching.default_priority_level

    async def close(self) -> None:
        """Take no more, let what waits and what runs end, and free the sessions."""
        await self._lane.close()
