"""A batch that failed, run again in halves: who is answered, and what that costs."""

from __future__ import annotations

from math import ceil, log2

from hypothesis import example, given
from hypothesis import strategies as st

from hasten.errors import HastenError, RuntimeFailureError
from hasten.serve.engine.halves import run_in_halves
from hasten.serve.engine.request import Batch, BatchResult
from scheduling import made


def rerun(rows: list[int], bad: set[int], most_rows: int = 10**6) -> Batch:
    """A batch of requests with so many rows after it failed, as those that are ``bad`` do."""
    requests = [made(rows=count) for count in rows]
    guilty = {requests[at] for at in bad}

    def run(part: Batch) -> HastenError | None:
        assert part.rows == sum(one.rows for one in part.requests) <= part.size
        if part.rows > most_rows or not guilty.isdisjoint(part.requests):
            return RuntimeFailureError("bad")
        part.result = BatchResult((), batched=True)
        return None

    batch = Batch(requests, sum(rows))
    run_in_halves(batch, run, lambda rows: 2 ** ceil(log2(rows)))
    return batch


@given(st.lists(st.integers(1, 5), min_size=2, max_size=70), st.data())
def test_only_those_fail_who_make_it_fail_and_the_cost_is_bounded(
    rows: list[int], data: st.DataObject
) -> None:
    count = len(rows)
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    batch = rerun(rows, bad)
    assert [one for part in batch.parts for one in part.requests] == batch.requests
    for part in batch.parts:
        guilty = [batch.requests.index(one) in bad for one in part.requests]
        assert (part.error is not None) == (guilty == [True])
        assert (part.result is None) == (guilty == [True])
        assert any(guilty) == (part.error is not None)
    assert batch.reruns <= min(2 * count - 2, len(bad) * 2 * ceil(log2(count)))


@given(st.lists(st.integers(1, 4), min_size=2, max_size=40))
@example([1, 1])
def test_a_batch_that_failed_for_its_size_is_answered_in_parts(rows: list[int]) -> None:
    batch = rerun(rows, set(), most_rows=max(*rows, sum(rows) // 2))
    assert all(part.result is not None for part in batch.parts)
