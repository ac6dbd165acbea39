"""All models that are served, by name and version: loaded, found and unloaded while others run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hasten.errors import OverloadedError, UnknownModelError
from hasten.serve.engine.model import ServedModel
from hasten.serve.engine.opening import open_model
from hasten.serve.engine.source import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hasten.serve.engine.cache import ResponseCache
    from hasten.serve.engine.request import Request

__all__ = ["Engine"]


#: Digits of a version; no number that is longer names one.
_LONGEST_VERSION = 20
#: Who unloads or replaces a model waits so long for its last requests.
_PATIENCE_S = 1.0


def _nothing() -> None:
    """Nobody is to be told."""


class Engine:
    """Called by the event loop's thread alone. Models whose settings say so share ``cache``."""

    def __init__(self, cache: ResponseCache[Request] | None = None) -> None:
        self.cache = cache
        self._models: dict[str, dict[int, ServedModel]] = {}
        self._closing = False
        #: Models that answer their last requests.
        self._leaving: set[asyncio.Task[None]] = set()
        #: Called whenever ``find`` may answer otherwise than before.
        self.on_change: Callable[[], None] = _nothing

    def __iter__(self) -> Iterator[ServedModel]:
        """Go through all versions of all models, by name and number."""
        for name in sorted(self._models):
            for version in sorted(self._models[name]):
                yield self._models[name][version]

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return a version of a model, the latest if none is named.

        Raises UnknownModelError, or OverloadedError once ``close`` was called.
        """
        versions = self._models.get(name)
        if self._closing:
            raise OverloadedError("The server is shutting down", retry_after_s=1.0)
        if not versions:
            raise UnknownModelError(f"Request for unknown model: '{name}' is not found")
        if not version:
            return versions[max(versions)]
        plain = version.isdecimal() and len(version) < _LONGEST_VERSION
        found = versions.get(int(version)) if plain else None
        if found is None:
            raise UnknownModelError(
                f"Request for unknown model: '{name}' version {version} is not found"
                f" (there is: {', '.join(map(str, sorted(versions)))})"
            )
        return found

    async def load(self, sources: Sequence[ModelSource]) -> None:
        """Load versions of one model; each replaces the one of its number once it is warm.

        Versions that are not among them are unloaded after that. Raises what ``open_model`` raises.
        """
        loop = asyncio.get_running_loop()
        name = sources[0].name
        for source in sources:
            opened = await loop.run_in_executor(None, open_model, source)
            versions = self._models.setdefault(name, {})
            before = versions.get(source.version)
            versions[source.version] = ServedModel(opened, loop, self.cache)
            self.on_change()
            if before is not None:
                await self._close([before])
        wanted = {source.version for source in sources}
        gone = [one for one in self._models[name] if one not in wanted]
        left = [self._models[name].pop(version) for version in gone]
        self.on_change()
        await self._close(left)

    async def unload(self, name: str) -> None:
        """Take a model away: new requests do not find it, running ones are answered."""
        versions = self._models.pop(name, None)
        if versions is None:
            raise UnknownModelError(f"Request for unknown model: '{name}' is not found")
        self.on_change()
        await self._close(versions.values())

    async def _close(self, models: Iterable[ServedModel]) -> None:
        """Close models; one whose requests take long goes on by itself, and nobody waits for it."""
        tasks = [asyncio.ensure_future(model.close()) for model in models]
        self._leaving.update(tasks)
        for task in tasks:
            task.add_done_callback(self._leaving.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE_S)
        for task in tasks:
            if task.done():
                task.result()

    async def close(self) -> None:
        """Unload all; from now on whoever looks for a model is told to try again."""
        self._closing = True
        self.on_change()
        left = [model for versions in self._models.values() for model in versions.values()]
        self._models.clear()
        await self._close(left)
        if self._leaving:
            await asyncio.wait(self._leaving)
