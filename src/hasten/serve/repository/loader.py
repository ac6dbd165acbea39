"""Models on disk and models in the engine, kept together: all at the start, then one by one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hasten.errors import HastenError, UnknownModelError
from hasten.serve.engine.model import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hasten.serve.engine.engine import Engine
    from hasten.serve.repository.servable import Servable

__all__ = ["Loader", "sources_of"]


def sources_of(models: Iterable[Servable]) -> dict[str, list[ModelSource]]:
    """Return what the engine opens, by the model's name."""
    return {
        model.name: [
            ModelSource(
                name=model.name,
                version=number,
                lowered=version.lowered,
                runtime=version.runtime,
                execution=version.execution,
                settings=model.settings,
                digest=version.artifact_digest,
                labels=model.labels,
            )
            for number, version in sorted(model.versions.items())
        ]
        for model in models
    }


class Loader:
    """Loads into an engine what ``find`` finds; it is asked again for every reload.

    ``ready`` once all that was found at the start is served. Called by the event loop's thread.
    """

    def __init__(
        self, engine: Engine, find: Callable[[], dict[str, Sequence[ModelSource]]]
    ) -> None:
        self._engine = engine
        self._find = find
        self._known: set[str] = set()
        self._failures: dict[str, str] = {}
        self._turn = asyncio.Lock()
        self.ready = False

    def unloaded(self) -> dict[str, str]:
        """Return the models that are known and not served, with why."""
        return {
            name: self._failures.get(name, "unloaded")
            for name in sorted(self._known)
            if name not in self._engine
        }

    async def load_all(self) -> None:
        """Load every model; raises the first error."""
        for sources in (await self._found()).values():
            await self._engine.load(sources)
        self.ready = True

    async def load(self, name: str) -> None:
        """Load or reload a model; raises UnknownModelError, or what finding or opening it raises.

        What was served under this name goes on until the new is warm, also where it fails.
        """
        async with self._turn:
            try:
                sources = (await self._found()).get(name)
                if not sources:
                    raise UnknownModelError(
                        f"Request for unknown model: '{name}' is not in the repository"
                    )
                await self._engine.load(sources)
            except HastenError as error:
                if name in self._known:
                    self._failures[name] = str(error)
                raise
            self._failures.pop(name, None)

    async def unload(self, name: str) -> None:
        """Stop serving a model; raises UnknownModelError."""
        async with self._turn:
            await self._engine.unload(name)

    async def _found(self) -> dict[str, Sequence[ModelSource]]:
        found = await asyncio.get_running_loop().run_in_executor(None, self._find)
        self._known |= found.keys()
        return found
