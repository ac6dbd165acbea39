"""Opens a model: tried out elsewhere, raced, warmed up, and told where its batches may run."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from hasten.errors import OptionError
from hasten.graph import Signature
from hasten.graph.rows import RowVerdict
from hasten.runtimes import Execution, get_runtime
from hasten.serve.engine.execution_choice import Choice, choose
from hasten.serve.engine.inline import Inline, time_is_bounded
from hasten.serve.engine.padding import require_lengths
from hasten.serve.engine.runner import Runner
from hasten.serve.engine.source import ModelSource
from hasten.serve.engine.trial import Trial, try_out
from hasten.serve.engine.warm_up import WarmedUp, handoff_ns, unwarmed, warm_up

__all__ = ["OpenedModel", "open_model", "uniform"]

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


@dataclass(frozen=True)
class OpenedModel:
    """A source whose sessions are open and warm.

    ``limit_ns`` is how long one run may take, ``rows`` what was proven of its rows, and ``notes``
    say what could not be done.
    """

    source: ModelSource
    choice: Choice
    batched: bool
    runners: tuple[Runner, ...]
    warmed: WarmedUp
    inline: Inline | None
    limit_ns: int
    rows: RowVerdict
    notes: tuple[str, ...] = ()


def open_model(source: ModelSource) -> OpenedModel:
    """Open and warm up the sessions of a model; takes as long as that takes.

    Raises RuntimeFailureError when the runtime cannot open it, OptionError when the settings want
    batches of a model that has no free batch axis. One that does not take the inputs that are made
    up for it is opened all the same, and not warm.
    """
    largest = source.settings.max_batch_size
    _require_settings(source)
    executions, sizes = _executions(source), _race_sizes(largest)
    trial = try_out(source, executions[0], sizes)
    way, batched = trial.way, trial.rows.rows == "independent" and largest != 0
    runtime = get_runtime(source.runtime)

    def opened(execution: Execution) -> Runner:
        return Runner(runtime, source.lowered, execution, batched=batched, made_up=way)

    if way is None:
        choice = Choice(executions[0], opened(executions[0]), "")
        warmed = unwarmed(largest if batched else 0)
    else:
        choice = choose(executions, opened, sizes if batched else (1,))
        warmed = warm_up(choice.runner, largest if batched else 0, any_batch=runtime.any_batch)
    runners = [choice.runner]
    runners += [opened(choice.execution) for _ in range(choice.execution.instances - 1)]
    for runner in runners[1:] if way is not None else ():
        for size in warmed.sizes:
            runner.prepare(size)
            runner.time(size)
    inline = _inline(source, warmed, batched=batched) if len(runners) == 1 else None
    return OpenedModel(
        *(source, choice, batched, tuple(runners), warmed, inline),
        limit_ns=_limit_ns(source, warmed),
        rows=trial.rows,
        notes=_notes(trial, source),
    )


def _require_settings(source: ModelSource) -> None:
    """Raise OptionError for settings that the model cannot be served with."""
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


def _inline(source: ModelSource, warmed: WarmedUp, *, batched: bool) -> Inline | None:
    """Return what the event loop runs of a model; None where that is nothing."""
    asked = source.settings.inline
    bound_ns = _INLINE_MOST_NS if asked else _INLINE_HANDOFFS * handoff_ns()
    largest = warmed.sizes[-1]
    if asked is False or warmed.times.expect(largest) >= bound_ns:
        return None
    if not time_is_bounded(source.lowered):
        return None
    timed = warmed.times.known and uniform(source.signature, batched=batched)
    return Inline(bound_ns, largest if timed else 0)


def uniform(signature: Signature, *, batched: bool) -> bool:
    """Whether all requests have the same shapes but for the batch."""
    shapes = [spec.shape[1:] if batched else spec.shape for spec in signature.inputs]
    return all(dim is not None for shape in shapes for dim in shape)


def _limit_ns(source: ModelSource, warmed: WarmedUp) -> int:
    """Return how long one run may take."""
    limit_ms = source.settings.execution_limit_ms
    if limit_ms is not None:
        return int(limit_ms * 1e6)
    return int(max(_LIMIT_NS, _LIMIT_TIMES * warmed.times.expect(warmed.sizes[-1])))


def _notes(trial: Trial, source: ModelSource) -> tuple[str, ...]:
    found = []
    joins = source.lowered.signature.batchable and source.settings.max_batch_size != 0
    if joins and trial.rows.rows != "independent":
        found.append(f"each request runs alone: {trial.rows}")
    if trial.refusal is not None:
        found.append(f"not warmed up: it does not take made-up inputs ({trial.refusal})")
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
