"""What the parent and the process that generates load say to each other, in msgpack."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import IO

import msgspec

from hasten.load_generator.arrivals import Arrivals
from hasten.load_generator.record import Record

__all__ = [
    "Aim",
    "Closed",
    "Done",
    "Fail",
    "Fire",
    "Open",
    "Reply",
    "Tell",
    "receive_bytes",
    "receive_order",
    "receive_reply",
    "send",
    "send_bytes",
]


class Aim(msgspec.Struct, frozen=True, tag=True):
    """Connect to this server; so many requests of the pool follow, each as plain bytes."""

    host: str
    port: int
    requests: int
    timeout_ns: int
    most_connections: int
    keep_answers: bool


class Closed(msgspec.Struct, frozen=True, tag=True):
    """So many requests in flight, each followed by the next."""

    concurrency: int
    duration_ns: int
    queries: int = 0


class Open(msgspec.Struct, frozen=True, tag=True):
    """Requests at times that were decided before."""

    arrivals: Arrivals
    duration_ns: int
    queries: int = 0


class Fire(msgspec.Struct, frozen=True, tag=True):
    """Load the server of this number; give up once more than ``most_bad`` missed ``goal_ns``."""

    server: int
    pattern: Closed | Open
    goal_ns: int = 0
    most_bad: int | None = None


class Tell(msgspec.Struct, frozen=True, tag=True):
    """So much of the run is over, as a share."""

    done: float


class Done(msgspec.Struct, frozen=True, tag=True):
    """The run is over; without a record it is connected."""

    record: Record | None = None


class Fail(msgspec.Struct, frozen=True, tag=True):
    """It could not be done, in one line."""

    reason: str


Order = Aim | Fire
Reply = Tell | Done | Fail

_LENGTH = struct.Struct("<Q")
_ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_REPLIES: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def send(stream: IO[bytes], record: Order | Reply) -> None:
    """Write one record: its length, then its bytes."""
    send_bytes(stream, [msgspec.msgpack.encode(record)])


def send_bytes(stream: IO[bytes], parts: Iterable[bytes]) -> None:
    """Write each part as its length, then its bytes."""
    for part in parts:
        stream.write(_LENGTH.pack(len(part)))
        stream.write(part)
    stream.flush()


def receive_order(stream: IO[bytes]) -> Order:
    """Read one order; raises EOFError when the parent is gone."""
    return _ORDERS.decode(receive_bytes(stream))


def receive_reply(stream: IO[bytes]) -> Reply:
    """Read one reply; raises EOFError when the process is gone."""
    return _REPLIES.decode(receive_bytes(stream))


def receive_bytes(stream: IO[bytes]) -> bytes:
    """Read what was sent as one part; raises EOFError when the other side is gone."""
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
