"""What a server tells of itself: metrics, statistics and the figures of its process."""

from __future__ import annotations

from importlib.metadata import version
from time import monotonic_ns
from typing import TYPE_CHECKING

from hasten.serve.http.metrics import ServerFigures, render_metrics, statistics_document
from hasten.worker.memory import resident_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hasten.serve.engine.engine import Engine
    from hasten.serve.engine.model import ServedModel
    from hasten.serve.engine.statistics import ModelStatistics
    from hasten.serve.http.body_memory import BodyMemory

__all__ = ["Status"]


class Status:
    """Reads counters when asked; counts nothing itself."""

    def __init__(self, engine: Engine, memory: BodyMemory) -> None:
        self._engine = engine
        self._memory = memory
        self._begin_ns = monotonic_ns()

    def metrics(self, open_connections: int) -> bytes:
        """Return the body of ``/metrics``."""
        cache = self._engine.cache
        figures = ServerFigures(
            version=version("hasten"),
            uptime_ns=monotonic_ns() - self._begin_ns,
            open_connections=open_connections,
            resident_bytes=resident_memory_bytes(),
            cache_bytes=cache.statistics.used_bytes if cache else 0,
            cache_budget_bytes=cache.capacity_bytes if cache else 0,
            body_bytes=self._memory.held_bytes,
            body_budget_bytes=self._memory.limit_bytes,
            bodies_refused=self._memory.refused,
        )
        return render_metrics(self._read(self._engine), figures)

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
