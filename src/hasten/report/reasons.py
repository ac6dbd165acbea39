"""Why a candidate is not used, short enough for a line of a table."""

from __future__ import annotations

__all__ = ["shortened"]


def shortened(reason: str, limit: int = 160) -> str:
    """Return the first of the parts that a reason lists, and how many more there are.

    Parts are what semicolons separate. A reason within the limit, or of one part, is left whole.

    >>> shortened("no equal of: Abs (node a); Exp (node b); Log (node c)", limit=30)
    'no equal of: Abs (node a); and 2 more, which bundle.json names'
    """
    parts = reason.split("; ")
    if len(reason) <= limit or len(parts) == 1:
        return reason
    kept, length = 1, len(parts[0])
    while kept < len(parts) and length + len(parts[kept]) + 2 <= limit:
        length += len(parts[kept]) + 2
        kept += 1
    left = len(parts) - kept
    return (
        f"{'; '.join(parts[:kept])}; and {left} more, which bundle.json names" if left else reason
    )
