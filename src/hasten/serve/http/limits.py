"""What clients may ask of the server, and how many they may be."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field

from hasten.measure.memory import usable_memory_bytes

__all__ = ["Limits", "raise_descriptor_limit"]

#: The part of the machine's memory that bodies and answers may hold, unless told otherwise.
_BODIES_SHARE = 4
#: Descriptors that are kept for models, files and the loop: a part of all, and so many at least.
_KEPT_PART, _KEPT_LEAST = 8, 32
_MOST_CONNECTIONS = 32_768


def _connections() -> int:
    """Return how many connections the limit of descriptors leaves room for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(1, min(_MOST_CONNECTIONS, hard - max(hard // _KEPT_PART, _KEPT_LEAST)))


@dataclass(frozen=True)
class Limits:
    """What a client may ask of a connection. Sizes in bytes, times in seconds.

    ``bodies_bytes`` is for the bodies and answers of all connections together, and never less than
    one body may be.
    """

    body_bytes: int = 64 * 2**20
    bodies_bytes: int = field(default_factory=lambda: usable_memory_bytes() // _BODIES_SHARE)
    head_bytes: int = 64 * 2**10
    buffer_bytes: int = 256 * 2**10
    #: A request, once begun, is to be whole within this; so is an answer to be taken.
    transfer_s: float = 30.0
    idle_s: float = 300.0
    connections: int = field(default_factory=_connections)
    #: From the signal to end until the process does, whatever still runs.
    grace_s: float = 10.0


def raise_descriptor_limit() -> None:
    """Let this process open as many files as it may be allowed without asking anyone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
