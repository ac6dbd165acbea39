"""What went wrong in code that is not ours, in one line."""

from __future__ import annotations

__all__ = ["one_line"]


def one_line(problem: BaseException) -> str:
    r"""Return the type and message of an exception, whatever lines and spaces the latter has.

    >>> one_line(ValueError("first\n  second"))
    'ValueError: first second'
    """
    return " ".join(f"{type(problem).__name__}: {problem}".split()).removesuffix(":")
