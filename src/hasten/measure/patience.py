"""Waiting for a worker: a hang is the candidate's doing, a deadline is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hasten.errors import RuntimeFailureError
from hasten.measure.clock import Deadline

__all__ = ["CutShortError", "patiently"]

T = TypeVar("T")

#: Work that was begun in time may end this long after the deadline.
_GRACE_S = 0.5


class CutShortError(Exception):
    """The deadline ended the work, before anyone could say that it hung."""


def patiently(work: Callable[[float], T], patience_s: float, deadline: Deadline) -> T:
    """Do ``work(limit_s)``, which raises RuntimeFailureError when it passes its limit.

    The limit is ``patience_s``, bounded by the deadline. Raises CutShortError where the deadline
    has passed, or was what ended the work; other failures are raised as they are.
    """
    if deadline.passed:
        raise CutShortError
    limit_s = min(patience_s, deadline.left_s + _GRACE_S)
    try:
        return work(limit_s)
    except RuntimeFailureError:
        if limit_s < patience_s and deadline.left_s <= -_GRACE_S:
            raise CutShortError from None
        raise
