"""What the parent and a worker process say to each other: msgpack records, never pickles."""

from __future__ import annotations

import struct
from typing import IO

import msgspec

from hasten.graph import Signature
from hasten.runtimes import Execution, Lowered, Placement
from hasten.worker.shared_arrays import Placed

__all__ = [
    "Clean",
    "Cleaned",
    "Fail",
    "Locate",
    "Located",
    "Measure",
    "Open",
    "Opened",
    "Predict",
    "Predicted",
    "Ran",
    "Reply",
    "Request",
    "Run",
    "Times",
    "receive_reply",
    "receive_request",
    "send",
]


class Open(msgspec.Struct, frozen=True, tag=True):
    """Compile the model and read the samples in this folder; none where it is empty.

    ``module_path`` is where the parent finds modules, for a model may be one.
    """

    runtime: str
    lowered: Lowered
    execution: Execution
    samples: str
    module_path: list[str]


class Measure(msgspec.Struct, frozen=True, tag=True):
    """Run ``settle`` times unmeasured, then ``runs`` times measured, on each instance."""

    runs: int
    settle: int


class Locate(msgspec.Struct, frozen=True, tag=True):
    """Say where the operators of the first instance run."""


class Predict(msgspec.Struct, frozen=True, tag=True):
    """Run every sample in the folder ``samples``, ``batch`` at a time where the batch is free.

    What each run answered is written to the new folder ``out``, for ``hasten.data.answers``.
    """

    samples: str
    out: str
    batch: int


class Run(msgspec.Struct, frozen=True, tag=True):
    """Run once on what lies in the memory ``source``, and leave the outputs in ``target``.

    Both are descriptors that the worker was started with.
    """

    feed: tuple[Placed, ...]
    source: int
    target: int


class Clean(msgspec.Struct, frozen=True, tag=True):
    """Clean the graph in the file ``model``, compared on a feed, and write it to ``out``."""

    name: str
    signature: Signature
    model: str
    out: str
    keep_batch_norms: bool
    feed: tuple[Placed, ...]
    source: int


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The sessions are open; opening took this long."""

    open_ns: int
    peak_bytes: int
    placement: Placement | None = None


class Times(msgspec.Struct, frozen=True, tag=True):
    """Times of single runs, and the time per item over all instances together."""

    runs_ns: list[int]
    item_ns: float
    peak_bytes: int


class Located(msgspec.Struct, frozen=True, tag=True):
    """Where operators run; None where the runtime does not tell."""

    placement: Placement | None
    peak_bytes: int


class Predicted(msgspec.Struct, frozen=True, tag=True):
    """Outputs are written."""

    peak_bytes: int


class Ran(msgspec.Struct, frozen=True, tag=True):
    """The outputs, and where they lie."""

    outputs: tuple[Placed, ...]
    peak_bytes: int


class Cleaned(msgspec.Struct, frozen=True, tag=True):
    """The clean graph is written, or ``refusal`` says why there is none."""

    refusal: str
    peak_bytes: int


class Fail(msgspec.Struct, frozen=True, tag=True):
    """The request could not be met, in one line."""

    reason: str


Request = Open | Measure | Locate | Predict | Run | Clean
#: All but a failure carry ``peak_bytes``, the most memory that was resident so far.
Reply = Opened | Times | Located | Predicted | Ran | Cleaned | Fail

_LENGTH = struct.Struct("<I")
_REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_REPLIES: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def send(stream: IO[bytes], record: Request | Reply) -> None:
    """Write one record: its length, then its bytes."""
    body = msgspec.msgpack.encode(record)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def receive_request(stream: IO[bytes]) -> Request:
    """Read one request; raises EOFError when the parent is gone."""
    return _REQUESTS.decode(_body(stream))


def receive_reply(stream: IO[bytes]) -> Reply:
    """Read one reply; raises EOFError when the worker is gone."""
    return _REPLIES.decode(_body(stream))


def _body(stream: IO[bytes]) -> bytes:
    head = _exactly(stream, _LENGTH.size)
    return _exactly(stream, _LENGTH.unpack(head)[0])


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
