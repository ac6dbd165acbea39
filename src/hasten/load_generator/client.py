"""Sends requests over many connections, on a loop of its own, and times the answers.

Not asyncio: its timers count in milliseconds, and it sends after the events of a turn, not at once.
Here a send is a system call at the time that is noted for it. Not aware of what requests mean.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httptools

from hasten.errors import OptionError
from hasten.load_generator.arrivals import Arrivals
from hasten.load_generator.connection import Connection, Head
from hasten.load_generator.record import Answer, Record

__all__ = ["Address", "Client", "Patience", "connect"]

_IN, _OUT = select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT
#: How often it looks for requests that have waited too long, and says how far it is.
_LOOK_NS = 50_000_000
#: It sleeps only where the next send is so far off, and before that it polls: a system that wakes
#: up late, a virtual one above all, would send late.
_SLEEP_FROM_NS = 1_000_000
_POLL_NS = 300_000
#: Few, so that the answers of one turn never hold up a send that is due.
_EVENTS_A_TURN = 4
_MOST_EVENTS = 64
_OK, _REFUSED = 200, 503
#: Distinct answers that are kept for one request of the pool.
_MOST_ANSWERS = 16

#: Told from time to time what share of a run is over.
Tick = Callable[[float], None]


@dataclass(frozen=True)
class Address:
    """Where the server listens: a host name or number, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Patience:
    """How long the client waits.

    A request is given up ``timeout_ns`` after its intended send. A run is given up once more than
    ``most_bad`` requests missed or took longer than ``goal_ns``; None is never.
    """

    timeout_ns: int
    goal_ns: int = 0
    most_bad: int | None = None


def connect(address: Address, timeout_s: float) -> socket.socket:
    """Open one connection; raises OptionError where nobody listens."""
    try:
        return socket.create_connection((address.host, address.port), timeout_s)
    except OSError as problem:
        raise OptionError(
            expected="a server that listens",
            got=problem.strerror or str(problem) or type(problem).__name__,
            where=f"http://{address}",
        ) from None


class Client:
    """Connections to one server and a pool of requests, which are sent in turn.

    ``keep_answers`` has distinct answers kept in the record. Raises OptionError where nobody
    listens.
    """

    def __init__(
        self,
        address: Address,
        requests: Sequence[bytes],
        patience: Patience,
        *,
        most_connections: int,
        keep_answers: bool = False,
        tick: Tick = lambda _: None,
    ) -> None:
        with connect(address, patience.timeout_ns / 1e9) as first:
            self._family, self._peer = first.family, first.getpeername()
        self._requests = requests
        self._order = itertools.cycle(range(len(requests)))
        self.patience = patience
        self._most = most_connections
        self._tick = tick
        self._clock = time.perf_counter_ns
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._head = Head()
        self._seen: list[dict[tuple[int | None, bytes], int]] | None = None
        if keep_answers:
            self._seen = [{} for _ in requests]
        self._forget()

    def _forget(self) -> None:
        self.record = Record.empty()
        self._idle: list[Connection] = []
        self._waiting: deque[int] = deque()
        self._lost = 0
        self._slow = 0
        self._issuing = True
        self._in_flight = 0
        self._freed: Callable[[Connection, int], None] = self._park
        for seen in self._seen or ():
            seen.clear()

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.sock.close()
        self._connections.clear()
        self._epoll.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Two ways to load

    def closed(self, concurrency: int, duration_ns: int, queries: int = 0) -> Record:
        """Keep so many requests in flight, each followed by the next as soon as it is answered.

        Until the duration is over and so many queries were sent; then the last are awaited.
        """
        self._forget()
        self._freed = self._follow
        begin, cpu = self._clock(), time.thread_time_ns()
        end = begin + duration_ns
        record = self.record
        spare = list(self._connections.values())
        for _ in range(concurrency):
            self._issue(spare.pop() if spare else self._open(), self._clock(), paced=False)
        look = begin + _LOOK_NS
        while True:
            for fd, events in self._epoll.poll(_LOOK_NS / 1e9, _MOST_EVENTS):
                self._ready(fd, events)
            now = self._clock()
            if now >= end and record.issued >= queries:
                break
            if now >= look:
                look = now + _LOOK_NS
                done = (now - begin) / max(duration_ns, 1)
                self._look(now, min(done, record.issued / queries) if queries else done)
                lost, self._lost = self._lost, 0
                for _ in range(lost):  # where it fails at once it is lost again: until next time
                    self._issue(self._open(), now, paced=False)
                if record.gave_up:
                    break
        return self._finish(begin, cpu)

    def open(self, arrivals: Arrivals, duration_ns: int, queries: int = 0) -> Record:
        """Send each request when it is due, whatever the server does.

        Arrivals end with the duration, or later where fewer than ``queries`` came until then.
        """
        self._forget()
        self.record.paced = True
        self._idle.extend(self._connections.values())
        begin, cpu = self._clock(), time.thread_time_ns()
        look = begin + _LOOK_NS
        for due in self._due(arrivals, begin, duration_ns, queries):
            while (now := self._clock()) < due:
                self._turn(min(due, look) - now)
                if now >= look:
                    look = now + _LOOK_NS
                    self._look(now, (now - begin) / max(duration_ns, 1))
            if self.record.gave_up:
                break
            self._dispatch(due, now)
        return self._finish(begin, cpu)

    def _due(self, arrivals: Arrivals, begin: int, duration_ns: int, queries: int) -> Iterator[int]:
        """Yield the time of each arrival by the clock, and last the end of the duration."""
        for count, offset in enumerate(arrivals.offsets_ns()):
            if offset >= duration_ns and count >= queries:
                break
            yield begin + offset

    def _turn(self, wait_ns: int) -> None:
        """Handle what has come; wait for it no longer than would make the next send late."""
        if wait_ns > _SLEEP_FROM_NS:
            # epoll counts in milliseconds, select in microseconds.
            select.select([self._epoll], [], [], (wait_ns - _POLL_NS) / 1e9)
        for fd, events in self._epoll.poll(0, _EVENTS_A_TURN):
            self._ready(fd, events)
        if self._waiting:
            self._replace_lost()

    def _dispatch(self, due: int, now: int) -> None:
        """Send a request that is due, or let it wait for one of the connections."""
        if self._idle:
            self._issue(self._idle.pop(), due, paced=True)
        elif len(self._connections) < self._most:
            self._issue(self._open(), due, paced=True)
        else:
            self.record.issued += 1
            self.record.lag.record(now - due)
            self._waiting.append(due)

    def _finish(self, begin: int, cpu_before: int) -> Record:
        """Await the last answers; no longer than they may take."""
        record = self.record
        sent = self._clock()
        record.window_ns = sent - begin
        record.busy_share = (time.thread_time_ns() - cpu_before) / max(record.window_ns, 1)
        self._issuing = False
        while (self._in_flight or self._waiting) and not record.gave_up:
            for fd, events in self._epoll.poll(_LOOK_NS / 1e9, _MOST_EVENTS):
                self._ready(fd, events)
            self._replace_lost()
            self._look(self._clock(), 1.0)
        record.elapsed_ns = self._clock() - begin
        record.connections = len(self._connections)
        for connection in [one for one in self._connections.values() if one.busy]:
            self._drop(connection)
        for request, seen in enumerate(self._seen or ()):
            record.answers += [Answer(request, *key, count) for key, count in seen.items()]
        return record

    # One request

    def _issue(self, connection: Connection, intended: int, *, paced: bool) -> None:
        request = next(self._order)
        connection.request = request
        connection.intended_ns = intended
        connection.busy = True
        connection.sent_ns = now = self._clock()
        self._in_flight += 1
        if paced:
            self.record.issued += 1
            self.record.lag.record(now - intended)
        elif self._freed == self._follow:
            self.record.issued += 1
        try:
            whole = connection.begin(self._requests[request])
        except OSError as problem:
            self._fail(connection, "disconnected", problem)
            return
        if not whole:
            self._epoll.modify(connection.sock, _OUT)

    def _ready(self, fd: int, events: int) -> None:
        connection = self._connections.get(fd)
        if connection is None:  # closed in this very turn
            return
        try:
            if events & select.EPOLLOUT and connection.resume():
                self._epoll.modify(fd, _IN)
            if not events & ~select.EPOLLOUT:
                return
            status = connection.advance()
        except OSError as problem:
            self._fail(connection, "disconnected", problem)
        except httptools.HttpParserError as problem:
            self._fail(connection, "not HTTP", problem)
        else:
            if status:
                self._answered(connection, status)

    def _answered(self, connection: Connection, status: int) -> None:
        now = self._clock()
        if not connection.busy:
            self._fail(connection, "not HTTP", ValueError("an answer to nothing"))
            return
        connection.busy = False
        self._in_flight -= 1
        record = self.record
        if status == _OK:
            latency = now - connection.intended_ns
            record.latency.record(latency)
            record.service.record(now - connection.sent_ns)
            if self._issuing:
                record.ended_in_window += 1
            if latency > self.patience.goal_ns > 0:
                self._slow += 1
            if self._seen is not None:
                self._keep(connection, self._seen[connection.request])
        else:
            kind = "refused (503)" if status == _REFUSED else f"status {status}"
            self._miss(kind, connection.answer()[:200].decode(errors="replace"))
        if connection.usable:
            self._freed(connection, now)
        else:
            self._drop(connection)
            self._freed(self._open(), now)

    def _keep(self, connection: Connection, seen: dict[tuple[int | None, bytes], int]) -> None:
        key = (connection.json_bytes, connection.answer())
        if key in seen or len(seen) < _MOST_ANSWERS:
            seen[key] = seen.get(key, 0) + 1
        else:
            self.record.unchecked += 1

    def _park(self, connection: Connection, now: int) -> None:
        """Open loop: the connection takes a request that waits, or waits for one."""
        del now
        if not self._waiting:
            self._idle.append(connection)
            return
        self._issue_waiting(connection)

    def _issue_waiting(self, connection: Connection) -> None:
        # It was counted, and its lag noted, when it was due.
        self._issue(connection, self._waiting.popleft(), paced=False)

    def _follow(self, connection: Connection, now: int) -> None:
        """Closed loop: the next request follows at once."""
        if self._issuing:
            self._issue(connection, now, paced=False)

    # What goes wrong

    def _miss(self, kind: str, what: str) -> None:
        record = self.record
        record.misses[kind] = record.misses.get(kind, 0) + 1
        record.first_problem = record.first_problem or f"{kind}: {' '.join(what.split())}"

    def _fail(self, connection: Connection, kind: str, problem: Exception) -> None:
        """Count what was in flight as a miss, and give the connection up."""
        if connection.busy:
            self._in_flight -= 1
            self._miss(kind, str(problem))
            if self._freed == self._follow and self._issuing:
                self._lost += 1
        self._drop(connection)

    def _replace_lost(self) -> None:
        """Open connections anew for requests that wait for one."""
        for _ in range(min(len(self._waiting), self._most - len(self._connections))):
            self._issue_waiting(self._open())

    def _look(self, now: int, done: float) -> None:
        """Give up requests that waited too long, and the run where it cannot be saved."""
        patience, oldest = self.patience, now - self.patience.timeout_ns
        for connection in list(self._connections.values()):
            if connection.busy and connection.intended_ns < oldest:
                self._fail(connection, "timed out", TimeoutError("no answer in time"))
        while self._waiting and self._waiting[0] < oldest:
            self._waiting.popleft()
            self._miss("timed out", "no connection was free in time")
        if patience.most_bad is not None:
            late = now - patience.goal_ns
            bad = sum(one.busy and one.intended_ns < late for one in self._connections.values())
            bad += sum(due < late for due in self._waiting)
            if bad + self._slow + self.record.missed > patience.most_bad:
                self.record.gave_up = True
        self._tick(min(done, 1.0))

    # Connections

    def _open(self) -> Connection:
        """Begin to connect; what is sent meanwhile goes out once that is done."""
        sock: Any = socket.socket(self._family, socket.SOCK_STREAM)
        connection = Connection(sock, self._head)
        sock.connect_ex(self._peer)
        self._connections[sock.fileno()] = connection
        self._epoll.register(sock, _IN)
        return connection

    def _drop(self, connection: Connection) -> None:
        connection.busy = False
        if self._connections.pop(connection.sock.fileno(), None) is not None:
            self._epoll.unregister(connection.sock)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.sock.close()
