"""A model's first runs, in a process of its own: what it takes, and whether its rows are its own.

The file may be a stranger's. It may crash its runtime, loop without end or fill the memory as soon
as it is opened or run; the server opens it once it has done neither elsewhere.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hasten.errors import HastenError
from hasten.graph.rows import RowVerdict
from hasten.runtimes import Execution
from hasten.serve.engine.made_up import MadeUp, first_that_runs, made_up_inputs, may_be_unlucky
from hasten.serve.engine.row_proof import prove_rows
from hasten.serve.engine.source import ModelSource
from hasten.worker.session import WorkerSession, in_worker

__all__ = ["Trial", "try_out"]

_NOT_FREE = RowVerdict("mixed", why="the first axis is not free in each of its tensors")


class Trial(NamedTuple):
    """What was learnt: how inputs are made up that it takes, None with the ``refusal``; its rows.

    ``rows`` is independent only where that was proven.
    """

    way: MadeUp | None
    refusal: HastenError | None
    rows: RowVerdict


def try_out(source: ModelSource, execution: Execution, sizes: Sequence[int]) -> Trial:
    """Open a model in a worker, and run it with so many rows of inputs that are made up.

    Raises RuntimeFailureError for a model that cannot be opened, that passes the limits of a worker
    (``hasten.worker.limits``), or that fails whatever it is given.
    """
    signature = source.lowered.signature
    with (
        tempfile.TemporaryDirectory(prefix="hasten-") as folder,
        in_worker(source.runtime, source.lowered, execution, Path(folder)) as session,
    ):
        session.ready()
        way, refusal = first_that_runs(
            made_up_inputs(signature, source.settings.model_warmup, *_lengths(source)),
            lambda one: _runs(session, source, one, sizes),
        )
        if refusal is not None and (session.gone or not may_be_unlucky(signature)):
            raise refusal
        if not signature.batchable:
            return Trial(way, refusal, _NOT_FREE)
        rows = prove_rows(session.run, signature, way, source.rows)
        if session.gone:
            _runs(session, source, way or MadeUp(), (1,))  # says why
        return Trial(way, refusal, rows)


def _lengths(source: ModelSource) -> tuple[tuple[int, ...], ...]:
    buckets = source.settings.length_buckets
    return () if buckets is None else ((buckets.lengths[-1],),)


def _runs(session: WorkerSession, source: ModelSource, way: MadeUp, sizes: Sequence[int]) -> None:
    for rows in sizes if source.lowered.signature.batchable else (1,):
        session.run(way.feed(source.lowered.signature, rows))
