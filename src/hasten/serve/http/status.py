"""What a server tells of itself: metrics, statistics and the figures of its process."""

from __future__ import annotations

from importlib.metadata import version
from time import monotonic_ns
from typing import TYPE_CHECKING

from hasten.serve.http.exchange import message
from hasten.serve.http.metrics import (
    CONTENT_TYPE,
    ServerFigures,
    metrics_steps,
    statistics_document,
)
from hasten.worker.memory import resident_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hasten.serve.engine.engine import Engine
    from hasten.serve.engine.model import ServedModel
    from hasten.serve.engine.statistics import ModelStatistics
    from hasten.serve.http.body_memory import BodyMemory
    from hasten.serve.http.exchange import Exchange
    from hasten.serve.http.slices import Slices

__all__ = ["Status"]


class Status:
    """Reads counters when asked; counts nothing itself."""

    def __init__(self, engine: Engine, memory: BodyMemory) -> None:
        self._engine = engine
        self._memory = memory
        self._begin_ns = monotonic_ns()
        self._version = version("hasten")
        self._asked: list[Exchange] = []

    def metrics(self, exchange: Exchange, open_connections: Callable[[], int]) -> None:
        """Answer ``/metrics``, with what is true once its turn has come.

        Those that ask before that are answered with the same, and those that have gone not at all.
        """
        self._asked.append(exchange)
        if len(self._asked) == 1:
            slices = exchange.pipeline.slices
            slices.start(exchange, self._answer_metrics(slices, open_connections))

    async def _answer_metrics(self, slices: Slices, open_connections: Callable[[], int]) -> None:
        asked: list[Exchange] = []

        def steps() -> Iterator[None]:
            asked[:], self._asked = self._asked, []
            asked[:] = [one for one in asked if not one.pipeline.closing]
            if asked:
                body = yield from metrics_steps(
                    self._read(self._engine), self._figures(open_connections())
                )
                for one in asked:
                    one.answer([message(200, body, CONTENT_TYPE)])

        await slices.run(steps())

    def _figures(self, open_connections: int) -> ServerFigures:
        cache = self._engine.cache
        return ServerFigures(
            version=self._version,
            uptime_ns=monotonic_ns() - self._begin_ns,
            open_connections=open_connections,
            resident_bytes=resident_memory_bytes(),
            cache_bytes=cache.statistics.used_bytes if cache else 0,
            cache_budget_bytes=cache.capacity_bytes if cache else 0,
            body_bytes=self._memory.held_bytes,
            body_budget_bytes=self._memory.limit_bytes,
            answer_bytes=self._memory.answer_bytes,
            bodies_refused=self._memory.refused,
        )

    def statistics(self, models: Iterable[ServedModel]) -> bytes:
        """Return the body of ``/v2/models/M/stats``."""
        return statistics_document(self._read(models))

    @staticmethod
    def _read(models: Iterable[ServedModel]) -> dict[tuple[str, int], ModelStatistics]:
        found = {}
        for model in models:
            model.statistics.pending = model.waiting
            found[model.name, model.version] = model.statistics
        return found
