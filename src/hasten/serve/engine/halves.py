"""A batch that failed is run again in halves, so that only those fail who make it fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.serve.engine.request import Batch, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from hasten.errors import HastenError

__all__ = ["run_in_halves"]


def run_in_halves(
    batch: Batch, run: Callable[[Batch], HastenError | None], size_of: Callable[[int], int]
) -> None:
    """Leave ``parts`` in a batch that failed: each has a result, or one request and its error.

    ``run`` leaves the result in a part, or returns its error; ``size_of`` is the size to run so
    many rows with. Of n requests, each that fails costs at most 2 log2(n) runs, rounded up, and all
    together at most 2n - 2. Those that were cancelled meanwhile are run too: who hangs up at once
    would never be found out otherwise.
    """
    # The last first, so that parts come in the order of their requests.
    waiting = _halves(batch.requests)
    while waiting:
        requests = waiting.pop()
        part = Batch(requests, sum(one.rows for one in requests))
        part.size, part.begin_ns = size_of(part.rows), batch.begin_ns
        batch.reruns += 1
        part.error = run(part)
        if part.error is None or len(requests) == 1:
            batch.parts.append(part)
        else:
            waiting += _halves(requests)


def _halves(requests: list[Request]) -> list[list[Request]]:
    """Return both halves, the second first. Neither is spared: a batch may fail for its size."""
    middle = (len(requests) + 1) // 2
    return [requests[middle:], requests[:middle]]
