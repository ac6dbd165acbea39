"""Whose requests run apart: those of clients whose inputs made the model fail.

A failure is first the connection's. Where several new connections of one address begin with one,
others that are new from there are suspected too, until the model has answered one request of each:
whoever opens a connection for each request is found, and neighbours behind the same proxy are not
held back for longer than that. An IPv6 address is its network of 64 bits, which one client owns.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Apart", "Origin", "Suspects"]

#: Requests that must be answered before a connection is trusted again: so many after its first
#: failure, twice as many after each further one, up to the most.
_FIRST, _MOST = 4, 1024
#: Connections of one address that failed before new ones from there are suspected.
_CONNECTIONS = 4
#: A failure is forgotten after so long.
_FORGOTTEN_NS = 60_000_000_000
#: How often those are looked for that are past their time.
_SWEEP_NS = 100_000_000
#: Connections and addresses that are remembered; beyond that the oldest are forgotten.
_REMEMBERED = 4096
_NETWORK_BYTES = 8
_Key = TypeVar("_Key")


class Origin:
    """One connection, and the network address of its peer; empty where there is none.

    >>> Origin("::1").network == Origin("0:0:0:0::2").network, Origin("10.0.0.1").network
    (True, '10.0.0.1')
    """

    __slots__ = ("network",)

    def __init__(self, address: str = "") -> None:
        self.network = address
        if ":" in address:
            whole = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
            self.network = whole[:_NETWORK_BYTES].hex()


@dataclass(frozen=True, slots=True)
class Apart:
    """The key of requests that run apart from others of the same shapes, one at a time."""

    key: object


@dataclass(slots=True)
class _Record:
    """Failures, the answers that are wanted before trust, and when all of it is forgotten."""

    until_ns: int
    failures: int = 0
    wanted: int = 0


class Suspects:
    """Of one model. Called by the event loop's thread alone; each call is told the time."""

    def __init__(self) -> None:
        #: Connections of which anything is remembered; where there are none, nobody is suspected.
        self.origins: dict[Origin, _Record] = {}
        self._networks: dict[str, _Record] = {}
        self._sweep_ns = 0

    def includes(self, origin: Origin | None, now_ns: int) -> bool:
        """Whether a request from there is to run apart."""
        if origin is None:
            return False
        if now_ns >= self._sweep_ns:
            self._sweep_ns = now_ns + _SWEEP_NS
            _forget(self.origins, now_ns)
            _forget(self._networks, now_ns)
        record = self.origins.get(origin)
        if record is not None and record.until_ns <= now_ns:
            del self.origins[origin]
            record = None
        if record is None:
            network = self._networks.get(origin.network) if self._networks else None
            if network is None or network.until_ns <= now_ns or network.failures < _CONNECTIONS:
                return False
            record = self.origins[origin] = _Record(network.until_ns, wanted=1)
        return record.wanted > 0

    def failed(self, origin: Origin | None, now_ns: int) -> None:
        """Note that an input from there made the model fail, though it was run alone."""
        if origin is None:
            return
        record = _renewed(self.origins, origin, now_ns)
        if not record.failures:
            _renewed(self._networks, origin.network, now_ns).failures += 1
        record.wanted = min(_FIRST << record.failures, _MOST)
        record.failures += 1

    def answered(self, origin: Origin | None) -> None:
        """Note that a request which ran apart was answered."""
        record = self.origins.get(origin) if origin is not None else None
        if record is not None and record.wanted:
            record.wanted -= 1


def _renewed(records: dict[_Key, _Record], key: _Key, now_ns: int) -> _Record:
    """Return the record of a key, to be forgotten last of all."""
    until_ns = now_ns + _FORGOTTEN_NS
    record = records.pop(key, None) or _Record(until_ns)
    record.until_ns = until_ns
    records[key] = record
    if len(records) > _REMEMBERED:
        del records[next(iter(records))]
    return record


def _forget(records: dict[_Key, _Record], now_ns: int) -> None:
    """Drop the oldest that are past their time."""
    while records and next(iter(records.values())).until_ns <= now_ns:
        del records[next(iter(records))]
