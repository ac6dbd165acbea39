"""Work in steps: a generator that yields where others may have their turn, and returns a result."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

__all__ = ["drained"]

T = TypeVar("T")


def drained(steps: Generator[None, None, T]) -> T:
    """Go through all steps at once; return what they come to."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
