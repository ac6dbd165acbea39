"""One version of one model, ready to answer: its signature, its lane and what it has done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from hasten.errors import HastenError, InvalidRequestError, OptionError
from hasten.graph import Signature
from hasten.graph.rows import UNREAD, RowVerdict
from hasten.runtimes import Execution, Lowered, get_runtime
from hasten.serve.engine.answers import Answers
from hasten.serve.engine.execution_choice import Choice, choose
from hasten.serve.engine.inline import Inline, time_is_bounded
from hasten.serve.engine.lane import Lane
from hasten.serve.engine.made_up import first_that_runs, made_up_inputs, may_be_unlucky
from hasten.serve.engine.ordering import Ordering
from hasten.serve.engine.padding import Entry, Padding, require_lengths
from hasten.serve.engine.reshape import Reshape
from hasten.serve.engine.row_proof import prove_rows
from hasten.serve.engine.runner import Runner
from hasten.serve.engine.scheduler import Scheduler
from hasten.serve.engine.settings import ServingSettings
from hasten.serve.engine.statistics import ModelStatistics
from hasten.serve.engine.warm_up import WarmedUp, handoff_ns, unwarmed, warm_up

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    import numpy as np

    from hasten.serve.engine.cache import ResponseCache
    from hasten.serve.engine.request import Request

__all__ = ["ModelSource", "OpenedModel", "ServedModel", "open_model"]

#: A thread costs its wake-up, one of the loop's, and turns at the interpreter's lock; so a batch
#: that takes less than a few of those is run by the loop.
_INLINE_HANDOFFS = 4
#: The most that the loop runs at a time where the settings ask for it.
_INLINE_MOST_NS = 5_000_000
#: How long one run may take, where nothing else is said: so much, or so many times what the
#: largest batch took when it was warmed up.
_LIMIT_NS, _LIMIT_TIMES = 60_000_000_000, 100
#: Executions are raced with single rows, and with batches of so many.
_RACED_ROWS = 8
#: Rows of one request, where the settings give no limit.
_MOST_ROWS = 1024


@dataclass(frozen=True)
class ModelSource:
    """A version of a model on disk, and how it is to be run and served.

    ``signature`` is what clients see: that of ``lowered``, but for tensors that are reshaped.
    ``alternatives`` are executions that are timed against ``execution``, and the best is taken.
    ``digest`` is the SHA-256 of its file, in hex; ``labels`` name the classes of outputs, and
    ``formats`` the layouts of inputs in Triton's words. ``rows`` says whether rows are independent
    as far as the graph tells.
    """

    name: str
    version: int
    lowered: Lowered
    signature: Signature
    runtime: str
    execution: Execution
    settings: ServingSettings
    digest: str
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    alternatives: tuple[Execution, ...] = ()
    rows: RowVerdict = UNREAD


@dataclass(frozen=True)
class OpenedModel:
    """A source whose sessions are open and warm.

    ``rows`` is what was proven of its rows, and ``notes`` say what could not be done.
    """

    source: ModelSource
    choice: Choice
    batched: bool
    runners: tuple[Runner, ...]
    warmed: WarmedUp
    inline: Inline | None
    rows: RowVerdict
    notes: tuple[str, ...] = ()


def open_model(source: ModelSource) -> OpenedModel:
    """Open and warm up the sessions of a model; takes as long as that takes.

    Raises RuntimeFailureError when the runtime cannot open it, OptionError when the settings want
    batches of a model that has no free batch axis. One that does not take the inputs that are made
    up for it is opened all the same, and not warm.
    """
    settings, signature = source.settings, source.lowered.signature
    largest = settings.max_batch_size
    if largest and not signature.batchable:
        raise OptionError(
            expected="max_batch_size 0, since the batch axis is not free",
            got=str(largest),
            where=f"model {source.name}",
        )
    buckets = settings.length_buckets
    if buckets is not None:
        require_lengths(buckets, signature, source.name)
        if source.signature != signature:
            raise OptionError(
                expected="length_buckets of a model without reshape",
                got="both",
                where=f"model {source.name}",
            )
    runtime = get_runtime(source.runtime)
    executions = _executions(source)
    trial = runtime.open(source.lowered, executions[0])
    ways = made_up_inputs(signature, settings.model_warmup)
    if buckets is not None:
        ways = made_up_inputs(signature, settings.model_warmup, (buckets.lengths[-1],))
    # Several rows too: one may happen to be of values that it takes.
    tried = _race_sizes(largest) if signature.batchable else (1,)
    way, refusal = first_that_runs(
        ways, lambda one: [trial.run(one.feed(signature, rows)) for rows in tried]
    )
    if refusal is not None and not may_be_unlucky(signature):
        trial.close()
        raise refusal
    rows = RowVerdict("mixed", why="the first axis is not free in each of its tensors")
    if signature.batchable:
        rows = prove_rows(trial.run, signature, way, source.rows)
    batched = rows.rows == "independent" and largest != 0
    spare = [trial]

    def opened(execution: Execution) -> Runner:
        session = spare.pop() if spare and execution == executions[0] else None
        return Runner(
            runtime, source.lowered, execution, batched=batched, made_up=way, session=session
        )

    if way is None:
        choice = Choice(executions[0], opened(executions[0]), "")
        warmed = unwarmed(largest if batched else 0)
    else:
        choice = choose(executions, opened, _race_sizes(largest) if batched else (1,))
        warmed = warm_up(choice.runner, largest if batched else 0, any_batch=runtime.any_batch)
    runners = [choice.runner]
    runners += [opened(choice.execution) for _ in range(choice.execution.instances - 1)]
    for runner in runners[1:] if way is not None else ():
        for size in warmed.sizes:
            runner.prepare(size)
            runner.time(size)
    notes = _notes(rows, settings, signature, refusal)
    inline = _inline(source, warmed, batched=batched) if len(runners) == 1 else None
    return OpenedModel(source, choice, batched, tuple(runners), warmed, inline, rows, notes)


def _inline(source: ModelSource, warmed: WarmedUp, *, batched: bool) -> Inline | None:
    """Return what the event loop runs of a model; None where that is nothing."""
    asked = source.settings.inline
    bound_ns = _INLINE_MOST_NS if asked else _INLINE_HANDOFFS * handoff_ns()
    largest = warmed.sizes[-1]
    if asked is False or warmed.times.expect(largest) >= bound_ns:
        return None
    if not time_is_bounded(source.lowered):
        return None
    timed = warmed.times.known and _uniform(source.signature, batched=batched)
    return Inline(bound_ns, largest if timed else 0)


def _uniform(signature: Signature, *, batched: bool) -> bool:
    """Whether all requests have the same shapes but for the batch."""
    shapes = [spec.shape[1:] if batched else spec.shape for spec in signature.inputs]
    return all(dim is not None for shape in shapes for dim in shape)


def _limit_ns(source: ModelSource, warmed: WarmedUp) -> int:
    """Return how long one run may take."""
    limit_ms = source.settings.execution_limit_ms
    if limit_ms is not None:
        return int(limit_ms * 1e6)
    return int(max(_LIMIT_NS, _LIMIT_TIMES * warmed.times.expect(warmed.sizes[-1])))


def _notes(
    rows: RowVerdict, settings: ServingSettings, signature: Signature, refusal: HastenError | None
) -> tuple[str, ...]:
    found = []
    if signature.batchable and settings.max_batch_size != 0 and rows.rows != "independent":
        found.append(f"each request runs alone: {rows}")
    if refusal is not None:
        found.append(f"not warmed up: it does not take made-up inputs ({refusal})")
    return tuple(found)


def _executions(source: ModelSource) -> list[Execution]:
    """Return how the model may be run, those with fewer threads first."""
    settings = source.settings
    found = []
    for one in (source.execution, *source.alternatives):
        instances = settings.instances or one.instances
        threads = one.threads
        if source.alternatives:  # nothing was chosen yet: instances share the cores
            threads = max(1, threads // instances)
        found.append(
            msgspec.structs.replace(one, instances=instances, threads=settings.threads or threads)
        )
    return sorted(dict.fromkeys(found), key=lambda one: one.threads)


def _race_sizes(largest: int | None) -> tuple[int, ...]:
    return tuple(dict.fromkeys((1, min(_RACED_ROWS, largest or _RACED_ROWS))))


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
        self.uniform = _uniform(self.signature, batched=opened.batched)
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
            limit_ns=_limit_ns(source, opened.warmed),
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
