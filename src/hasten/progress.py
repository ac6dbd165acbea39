"""How long work tells how far it is, without knowing who shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Advance", "Progress", "Quiet", "ignore"]

#: Called with the amount done since the last call.
Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows stages of work; the command line draws bars, a library call is quiet."""

    def stage(self, title: str, total: int | None) -> AbstractContextManager[Advance]:
        """Begin a stage of ``total`` parts (None where unknown); it ends with the context."""
        ...


def ignore(amount: int) -> None:
    """Take note of nothing."""
    del amount


class Quiet:
    """Shows nothing."""

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:
        """Do nothing, at every step."""
        del title, total
        yield ignore
