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
from typing import TYPE_CHECKING, NamedTuple

from hasten.errors import OptionError
from hasten.serve.engine.engine import Engine
from hasten.serve.http.body_memory import BodyMemory
from hasten.serve.http.browser import Browsers
from hasten.serve.http.connection import Connection
from hasten.serve.http.control import Control
from hasten.serve.http.grace import end_within
from hasten.serve.http.limits import Limits, raise_descriptor_limit
from hasten.serve.http.routes import Routes
from hasten.serve.http.shared import Shared
from hasten.serve.repository.loader import Loader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hasten.serve.engine.cache import ResponseCache
    from hasten.serve.engine.request import Request
    from hasten.serve.repository.servable import Found

__all__ = ["Access", "Limits", "Server", "shown_host"]

#: How often slow clients are looked for.
_SWEEP_S = 1.0
_BACKLOG = 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Access:
    """Who may ask what, and where.

    With an ``admin`` address all that ``control`` allows is allowed there, and nowhere else. Pages
    in browsers find the server under ``hosts`` too.
    """

    control: Control = field(default_factory=Control)
    admin: tuple[str, int] | None = None
    hosts: tuple[str, ...] = ()


class _Listener(NamedTuple):
    """An address, the flags that give it, and what the connections there share."""

    host: str
    port: int
    flags: str
    shared: Shared

    def open(self) -> socket.socket:
        """Take the address; raises OptionError where it cannot be had."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self.host, self.port))
        except OSError as error:
            listening.close()
            raise OptionError(
                expected="an address that is free",
                got=error.strerror or str(error),
                where=self.flags.format(self.host, self.port),
            ) from error
        return listening


class Server:
    """One engine behind one listening socket, or a second one to control it."""

    def __init__(
        self,
        find: Callable[[], Found],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        limits: Limits | None = None,
        cache: ResponseCache[Request] | None = None,
        exit_on_error: bool = False,
        access: Access | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.engine = Engine(cache)
        self.loader = Loader(self.engine, find, exit_on_error=exit_on_error, tell=tell)
        self._tell = tell
        limits = limits or Limits()
        self._grace_s = limits.grace_s
        access = access or Access()
        memory = BodyMemory(max(limits.bodies_bytes, limits.body_bytes))
        browsers = Browsers((*access.hosts, host))
        routes: list[Routes] = []

        def shared(control: Control, own: BodyMemory) -> Shared:
            count = self._open_connections
            routes.append(Routes(self.engine, self.loader, memory, count, control))
            return Shared(limits, own, routes[-1], browsers)

        everyone = access.control if access.admin is None else Control(elsewhere=True)
        flags = "--host {} --http-port {}"
        self._listeners = [_Listener(host, port, flags, shared(everyone, memory))]
        if access.admin is not None:
            flags = "--admin-address {} --admin-port {}"
            room = BodyMemory(limits.body_bytes)  # its own: the crowd may have used the other up
            self._listeners.append(_Listener(*access.admin, flags, shared(access.control, room)))

        def forget() -> None:
            for one in routes:
                one.forget()

        self.engine.on_change = forget

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
            end_within(self._grace_s)
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
        raise_descriptor_limit()
        sockets = [one.open() for one in self._listeners]
        servers = [
            await loop.create_server(partial(Connection, one.shared), sock=sock, backlog=_BACKLOG)
            for sock, one in zip(sockets, self._listeners, strict=True)
        ]
        if len(sockets) > 1 and self._tell is not None:
            host, port = sockets[1].getsockname()[:2]
            self._tell(f"models are controlled at http://{shown_host(host)}:{port}")
        sweep = loop.create_task(self._sweep())
        try:
            yield sockets[0].getsockname()[1]
        finally:
            for server in servers:
                server.close()
            sweep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweep
            for one in self._listeners:
                await one.shared.slices.finish()
            await self.engine.close()
            for one in self._listeners:
                await _hang_up(one.shared)

    def _open_connections(self) -> int:
        return sum(len(one.shared.connections) for one in self._listeners)

    async def _sweep(self) -> None:
        """Look for slow clients from time to time."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            for one in self._listeners:
                one.shared.sweep()


def shown_host(host: str) -> str:
    """Return a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


async def _hang_up(shared: Shared) -> None:
    """Close all connections, and wait until what was written is sent."""
    shared.left.clear()
    for connection in list(shared.connections):
        connection.close()
    if shared.connections:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(shared.limits.transfer_s):
                await shared.left.wait()
