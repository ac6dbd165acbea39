"""The server: sockets, models and their end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import warnings
from functools import partial
from typing import TYPE_CHECKING

from hasten.errors import OptionError
from hasten.serve.engine.engine import Engine
from hasten.serve.http.body_memory import BodyMemory
from hasten.serve.http.connection import Connection
from hasten.serve.http.limits import Limits, raise_descriptor_limit
from hasten.serve.http.routes import Routes
from hasten.serve.http.shared import Shared
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
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
            loading.cancel()
            for one in _SIGNALS:  # whoever asks twice does not want to wait
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
        raise_descriptor_limit()
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
            await self._shared.slices.finish()
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
        """Look for slow clients from time to time."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._shared.sweep()
