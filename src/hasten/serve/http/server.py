"""The server: sockets, models and their end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import warnings
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from hasten.errors import OptionError
from hasten.measure.memory import usable_memory_bytes
from hasten.serve.engine.engine import Engine
from hasten.serve.http.body_memory import BodyMemory
from hasten.serve.http.connection import Connection, Shared
from hasten.serve.http.exchange import HttpError
from hasten.serve.http.grace import end_within
from hasten.serve.http.routes import Routes
from hasten.serve.repository.loader import Loader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hasten.serve.engine.cache import ResponseCache
    from hasten.serve.engine.request import Request
    from hasten.serve.repository.servable import Found

__all__ = ["Limits", "Server"]

#: How often slow clients are looked for.
_SWEEP_S = 1.0
_BACKLOG = 1024
#: The part of the machine's memory that bodies may hold, unless told otherwise.
_BODIES_SHARE = 4
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Limits:
    """What a client may ask of a connection. Sizes in bytes, times in seconds.

    ``bodies_bytes`` is for the bodies of all connections together, and never less than one may be.
    """

    body_bytes: int = 64 * 2**20
    bodies_bytes: int = field(default_factory=lambda: usable_memory_bytes() // _BODIES_SHARE)
    head_bytes: int = 64 * 2**10
    buffer_bytes: int = 256 * 2**10
    #: A request, once begun, is to be whole within this; so is an answer to be taken.
    transfer_s: float = 30.0
    idle_s: float = 300.0
    #: From the signal to end until the process does, whatever still runs.
    grace_s: float = 10.0


class Server:
    """One engine behind one listening socket."""

    def __init__(
        self,
        find: Callable[[], Found],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        limits: Limits | None = None,
        cache: ResponseCache[Request] | None = None,
    ) -> None:
        self.engine = Engine(cache)
        self.loader = Loader(self.engine, find)
        self._host, self._port = host, port
        limits = limits or Limits()
        memory = BodyMemory(max(limits.bodies_bytes, limits.body_bytes))
        routes = Routes(self.engine, self.loader, memory, lambda: len(self._shared.connections))
        self._shared = Shared(limits, memory, routes)

    async def run(self, started: Callable[[int], None]) -> None:
        """Serve until a signal comes; ``started`` is told the port once all models are ready."""
        # A float that its datatype cannot hold is the client's mistake, and not infinity.
        warnings.filterwarnings("error", "overflow encountered in cast", RuntimeWarning)
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for one in _SIGNALS:
            loop.add_signal_handler(one, stop.set)
        async with self._listening() as port:
            loading, stopping = loop.create_task(self._load()), loop.create_task(stop.wait())
            await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
                started(port)
            await stopping
            end_within(self._shared.limits.grace_s)
            loading.cancel()
            for one in _SIGNALS:  # a second signal ends the process at once
                loop.remove_signal_handler(one)
                signal.signal(one, signal.SIG_DFL)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Listen and load, then serve while inside; gives the port."""
        async with self._listening() as port:
            await self._load()
            yield port

    async def _load(self) -> None:
        await self.loader.load_all()
        gc.collect()
        gc.freeze()  # what was loaded stays: no collection need look at it again

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[int]:
        """Answer while inside, and what was asked by then; gives the port."""
        loop = asyncio.get_running_loop()
        listening = self._listen()
        server = await loop.create_server(
            partial(Connection, self._shared), sock=listening, backlog=_BACKLOG
        )
        sweep = loop.create_task(self._sweep())
        try:
            yield listening.getsockname()[1]
        finally:
            server.close()
            sweep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweep
            await self.engine.close()
            await self._hang_up()

    async def _hang_up(self) -> None:
        """Close all connections, and wait until what was written is sent."""
        shared = self._shared
        shared.left.clear()
        for connection in list(shared.connections):
            connection.close()
        if shared.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(shared.limits.transfer_s):
                    await shared.left.wait()

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
        except OSError as error:
            listening.close()
            raise OptionError(
                expected="an address that is free",
                got=error.strerror or str(error),
                where=f"--host {self._host} --http-port {self._port}",
            ) from error
        return listening

    async def _sweep(self) -> None:
        """End connections of clients that take too long over what they began."""
        limits = self._shared.limits
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = monotonic()
            for connection in list(self._shared.connections):
                if not connection.since:
                    continue
                limit = limits.transfer_s if connection.transferring else limits.idle_s
                if now - connection.since > limit:
                    connection.expire(
                        HttpError(408, f"Expected a whole request within {limit:g} s")
                    )
