"""Models on disk and models in the engine, kept together: all at the start, then one by one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from hasten.errors import HastenError, ModelError, UnknownModelError
from hasten.printable import printable
from hasten.serve.engine.source import ModelSource
from hasten.serve.repository.reasons import without_folders
from hasten.serve.repository.tensors import offered
from hasten.serve.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from hasten.serve.engine.engine import Engine
    from hasten.serve.repository.servable import Found, Place, Servable

__all__ = ["Loader", "sources_of"]

#: Models that are opened at once.
_AT_ONCE = 4
#: For so long a model that is warmed up has the machine to itself.
_ALONE_S = 2.0
#: Models that are named where none can be served.
_TOLD = 3


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
            rows=version.rows,
            formats={one.name: one.format for one in model.config.inputs} if model.config else {},
        )
        for number, version in sorted(model.versions.items())
    ]


class Loader:
    """Loads into an engine what ``find`` finds; it is asked again for every reload.

    A model that cannot be served is remembered with its reason, and harms no other: with
    ``exit_on_error`` it ends the start instead. Up to four models are read at once, the loads of
    one model are done in their order. While one is warmed up, which measures it, the others wait,
    but for two seconds at most: a model that hangs holds up nobody. ``tell`` gets a line on each
    model that is served or is not, as soon as it is sure that the server stays. Called by the event
    loop's thread.
    """

    def __init__(
        self,
        engine: Engine,
        find: Callable[[], Found],
        *,
        exit_on_error: bool = False,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._engine = engine
        self._find = find
        self._exit_on_error = exit_on_error
        self._tell = tell
        self._places: dict[str, Place] = {}
        self._known: set[str] = set()
        self._loading: set[str] = set()
        self._failures: dict[str, HastenError] = {}
        self._reports: dict[tuple[str, int], Path] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._warming = asyncio.Lock()
        #: Models without which the server does not start, and lines that wait until it is sure to.
        self._needed: set[str] = set()
        self._untold: list[str] = []
        #: Whether all that was found at the start was tried.
        self.loaded = False

    def unloaded(self) -> dict[str, tuple[str, str]]:
        """Return the models that are known and not served: their state, and why, without paths."""
        return {name: self._state(name) for name in sorted(self._known) if name not in self._engine}

    def failed(self) -> list[str]:
        """Return the models that are not served though nobody unloaded them."""
        return sorted(name for name in self._failures if name not in self._engine)

    def public(self, error: HastenError) -> str:
        """Return what clients may read of an error: it names no folder of this machine."""
        folders = {str(place.path.parent) for place in self._places.values()}
        folders |= {str(place.path.parent.resolve()) for place in self._places.values()}
        return printable(without_folders(str(error), folders - {".", "/"}))

    def report(self, name: str, version: int) -> Path | None:
        """Return the page of the bundle that this version came from, if it came from one."""
        return self._reports.get((name, version))

    def _state(self, name: str) -> tuple[str, str]:
        if name in self._loading:
            return "LOADING", ""
        error = self._failures.get(name)
        return "UNAVAILABLE", "unloaded" if error is None else self.public(error)

    async def load_all(self) -> None:
        """Load every model there is; each is served as soon as it is ready.

        Raises the error of one to which a path of its own led, of any with ``exit_on_error``, and
        an error where none is served.
        """
        found = await self._found()
        self._needed = set(found.named) | (self._known if self._exit_on_error else set())
        self._loading = set(found.places)
        for name, error in found.refused.items():
            self._fail(name, error)
        first = [asyncio.ensure_future(self._first(place)) for place in found.places.values()]
        try:
            await asyncio.gather(*first)
        finally:
            for task in first:
                task.cancel()
        if len(self._failures) == len(self._known):
            raise _nothing_served(self._failures)
        self.loaded = True
        self._say()

    async def _first(self, place: Place) -> None:
        """Load a model at the start."""
        async with self._turn(place.name):
            try:
                await self._serve(place)
            except HastenError as error:
                self._fail(place.name, error)
            finally:
                self._loading.discard(place.name)

    def _fail(self, name: str, error: HastenError) -> None:
        """Keep why a model is not served; raises that where the server is to end for it."""
        if name in self._needed:
            raise error
        self._failures[name] = error
        self._say(f"{name} is not served: {error}")

    async def load(self, name: str) -> None:
        """Load or reload a model; raises UnknownModelError, or what finding or opening it raises.

        What was served under this name goes on until the new is warm, also where it fails.
        """
        async with self._turn(name):
            try:
                await self._serve(_named(name, await self._found()))
            except HastenError as error:
                if name in self._known:
                    self._failures[name] = error
                    self._say(f"{name} was not loaded: {error}")
                raise
            self._failures.pop(name, None)

    async def unload(self, name: str) -> None:
        """Stop serving a model, or expecting one that failed; raises UnknownModelError."""
        async with self._turn(name):
            if self._failures.pop(name, None) is None or name in self._engine:
                await self._engine.unload(name)
                self._say(f"{name} was unloaded")

    def _turn(self, name: str) -> asyncio.Lock:
        """Return the lock of a model: its loads and unloads are done one after another."""
        turn = self._turns.get(name)
        if turn is None:
            turn = self._turns[name] = asyncio.Lock()
        return turn

    async def _serve(self, place: Place) -> None:
        """Read, open and warm up a model, and nothing of any other."""
        async with self._room:
            model = await in_thread(place.open, f"read-{place.name}")
            async with self._quiet():
                await self._engine.load(sources_of(model))
        for number, version in model.versions.items():
            if version.report is not None:
                self._reports[model.name, number] = version.report
            else:
                self._reports.pop((model.name, number), None)
        self._needed.discard(model.name)
        for note in model.notes:
            self._say(f"{model.name}: {note}")
        for one in self._engine:
            if one.name == model.name:
                self._say(one.describe())

    @contextlib.asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """Wait for the warm-up of another model, though not for long."""
        alone = True
        try:
            await asyncio.wait_for(self._warming.acquire(), _ALONE_S)
        except TimeoutError:
            alone = False
        try:
            yield
        finally:
            if alone:
                self._warming.release()

    def _say(self, *lines: str) -> None:
        """Tell what happened, once nothing can end the start any more."""
        self._untold += lines
        if self._tell is None or self._needed or not (self.loaded or any(self._engine)):
            return
        for line in self._untold:
            self._tell(line)
        self._untold.clear()

    async def _found(self) -> Found:
        found = await in_thread(self._find, "find-models")
        self._places = found.places
        self._known |= found.refused.keys() | found.places.keys()
        return found


def _named(name: str, found: Found) -> Place:
    if name in found.places:
        return found.places[name]
    if name in found.refused:
        raise found.refused[name]
    raise UnknownModelError(f"Request for unknown model: '{name}' is not in the repository")


def _nothing_served(failures: dict[str, HastenError]) -> HastenError:
    if len(failures) == 1:
        return next(iter(failures.values()))
    told = [f"{name}: {failures[name]}" for name in sorted(failures)]
    more = f", and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    return ModelError(
        expected="one model at least that can be served",
        got=f"{len(failures)} that cannot",
        where=", ".join(told[:_TOLD]) + more,
    )
