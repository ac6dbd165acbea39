"""Models on disk and models in the engine, kept together: all at the start, then one by one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hasten.errors import HastenError, ModelError, UnknownModelError
from hasten.serve.engine.model import ModelSource
from hasten.serve.repository.tensors import offered

if TYPE_CHECKING:
    from collections.abc import Callable

    from hasten.serve.engine.engine import Engine
    from hasten.serve.repository.servable import Found, Servable

__all__ = ["Loader", "sources_of"]


def sources_of(model: Servable) -> list[ModelSource]:
    """Return what the engine opens for a model, by rising versions."""
    return [
        ModelSource(
            name=model.name,
            version=number,
            lowered=version.lowered,
            signature=offered(model.config, version.lowered.signature),
            runtime=version.runtime,
            execution=version.execution,
            alternatives=version.alternatives,
            settings=model.settings,
            digest=version.artifact_digest,
            labels=model.labels,
            formats={one.name: one.format for one in model.config.inputs} if model.config else {},
        )
        for number, version in sorted(model.versions.items())
    ]


class Loader:
    """Loads into an engine what ``find`` finds; it is asked again for every reload.

    A model that cannot be served is remembered with its reason, and harms no other. Called by the
    event loop's thread.
    """

    def __init__(self, engine: Engine, find: Callable[[], Found]) -> None:
        self._engine = engine
        self._find = find
        self._known: set[str] = set()
        self._failures: dict[str, HastenError] = {}
        self._turn = asyncio.Lock()
        #: Whether all that was found at the start was tried.
        self.loaded = False
        #: What there is to say of the models that were found at the start, a line each.
        self.notes: list[str] = []

    def unloaded(self) -> dict[str, str]:
        """Return the models that are known and not served, with why."""
        return {
            name: str(self._failures.get(name, "unloaded"))
            for name in sorted(self._known)
            if name not in self._engine
        }

    def failed(self) -> list[str]:
        """Return the models that are not served though nobody unloaded them."""
        return sorted(name for name in self._failures if name not in self._engine)

    async def load_all(self) -> None:
        """Load every model there is.

        Raises the error of one to which a path of its own led, and an error where none is served.
        """
        found = await self._found()
        failures: dict[str, HastenError] = dict(found.refused)
        for model in found.models:
            try:
                await self._engine.load(sources_of(model))
            except HastenError as error:
                if model.name in found.named:
                    raise
                failures[model.name] = error
        if len(failures) == len(self._known):
            raise _nothing_served(failures)
        self._failures = failures
        self.notes = [f"{model.name}: {note}" for model in found.models for note in model.notes]
        self.notes += [f"{name} is not served: {error}" for name, error in failures.items()]
        self.loaded = True

    async def load(self, name: str) -> None:
        """Load or reload a model; raises UnknownModelError, or what finding or opening it raises.

        What was served under this name goes on until the new is warm, also where it fails.
        """
        async with self._turn:
            try:
                await self._engine.load(sources_of(_named(name, await self._found())))
            except HastenError as error:
                if name in self._known:
                    self._failures[name] = error
                raise
            self._failures.pop(name, None)

    async def unload(self, name: str) -> None:
        """Stop serving a model, or expecting one that failed; raises UnknownModelError."""
        async with self._turn:
            if self._failures.pop(name, None) is None or name in self._engine:
                await self._engine.unload(name)

    async def _found(self) -> Found:
        found = await asyncio.get_running_loop().run_in_executor(None, self._find)
        self._known |= found.refused.keys() | {model.name for model in found.models}
        return found


def _named(name: str, found: Found) -> Servable:
    for model in found.models:
        if model.name == name:
            return model
    if name in found.refused:
        raise found.refused[name]
    raise UnknownModelError(f"Request for unknown model: '{name}' is not in the repository")


def _nothing_served(failures: dict[str, HastenError]) -> HastenError:
    (name, error), *others = failures.items()
    if not others:
        return error
    return ModelError(
        expected="one model at least that can be served",
        got=f"{len(failures)} that cannot",
        where=f"{name}: {error}",
    )
