"""Long work in short slices, so that the event loop turns to others in between.

A thread would not do for work that holds the interpreter's lock: the loop would wait for it as
long as for a slice of its own, and longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from hasten.errors import HastenError
from hasten.serve.http.exchange import HttpError

if TYPE_CHECKING:
    from hasten.serve.http.exchange import Exchange

__all__ = ["Slices"]

T = TypeVar("T")

#: What a slice takes, but for the length of its last step.
_SLICE_S = 0.001


class Slices:
    """Work for requests that takes long: a slice of each in turn, for half of the loop's time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()  # it is handed on in the order of asking
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """Begin work that answers a request; an error that it raises is the answer."""

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or (error := task.exception()) is None:
                return
            if isinstance(error, HastenError):
                exchange.fail(error)
                return
            exchange.fail(HttpError(500, "The server failed; its log says why"))
            context = {"message": "a request could not be handled", "exception": error}
            task.get_loop().call_exception_handler(context)

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(done)

    async def result(self, exchange: Exchange, steps: Generator[None, None, T]) -> T:
        """Return what steps come to, which are gone as long as the client is there."""
        found: list[T] = []

        def going() -> Iterator[None]:
            try:
                while not exchange.pipeline.closing:
                    yield next(steps)
            except StopIteration as done:
                found.append(done.value)

        await self.run(going())
        if not found:
            raise HttpError(500, "The client has gone")
        return found[0]

    async def run(self, steps: Iterable[None]) -> None:
        """Go through steps, each of which should take less than a millisecond."""
        steps, over = iter(steps), False
        while not over:
            async with self._turn:
                begin = perf_counter()
                over = True
                for _ in steps:
                    if perf_counter() - begin > _SLICE_S:
                        over = False
                        break
                if not over:
                    await asyncio.sleep(perf_counter() - begin)

    async def finish(self) -> None:
        """Wait until all that was begun has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)
