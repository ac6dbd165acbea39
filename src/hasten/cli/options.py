"""Flags that several verbs share, and how their text is read."""

from __future__ import annotations

import math
import re

from hasten.errors import OptionError
from hasten.graph import InputSpec, parse_input

__all__ = ["inputs_of", "megabytes", "rounds_of", "seconds"]

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_TIME = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")


def seconds(text: str) -> float:
    """Read a time such as 90, 90s, 5m or 1h, in seconds; raises OptionError.

    >>> seconds("1.5m")
    90.0
    """
    match = _TIME.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise OptionError(expected="a time such as 90s or 5m", got=repr(text), where="--time")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def megabytes(size: float | None, flag: str) -> int | None:
    """Return MB (10^6 bytes) as bytes; raises OptionError for what is no size."""
    if size is None:
        return None
    if not (math.isfinite(size) and size > 0):
        raise OptionError(expected="a number above 0", got=f"{size:g}", where=flag)
    return max(1, int(size * 1e6))


def rounds_of(count: int) -> int:
    """Return the count; raises OptionError for less than one."""
    if count < 1:
        raise OptionError(expected="1 or more", got=str(count), where="--rounds")
    return count


def inputs_of(texts: list[str] | None) -> list[InputSpec]:
    """Read each ``--input name=dtype[dim,...]``."""
    return [parse_input(text) for text in texts or []]
