"""How many rows a batch has, and how far it is padded."""

from __future__ import annotations

import pytest

from hasten.serve.engine.scheduler import Scheduler
from scheduling import MS, admitted, keep_up, made, scheduler, settings_of, taken, times_of


def test_no_batch_is_larger_than_the_largest_size() -> None:
    one = scheduler()
    requests = admitted(one, *(made(at) for at in range(11)))
    assert [taken(one), taken(one), taken(one)] == [requests[:8], requests[8:], []]


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (7, 8), (8, 8)])
def test_a_batch_is_padded_to_the_next_size(rows: int, size: int) -> None:
    one = scheduler()
    admitted(one, *(made() for _ in range(rows)))
    batch = one.take(0)
    assert batch is not None
    assert (batch.rows, batch.size) == (rows, size)


def test_a_request_larger_than_every_size_is_run_as_it_is() -> None:
    one = scheduler()
    request = made(rows=50)
    admitted(one, request, made())
    batch = one.take(0)
    assert batch is not None
    assert (batch.requests, batch.size) == ([request], 50)


def test_a_full_smaller_batch_goes_before_padding_that_costs_more_than_it_gives() -> None:
    # Time is by the row alone: five rows padded to eight would take as long as eight.
    one = scheduler(fixed_ns=0.0, row_ns=MS)
    one.review()
    requests = admitted(one, *(made(at) for at in range(5)))
    assert all(len(taken(one)) in {1, 2, 4} for _ in requests[:2])


def test_padding_goes_before_a_second_batch_where_rows_cost_nothing() -> None:
    one = scheduler(fixed_ns=MS, row_ns=0.0)
    admitted(one, *(made() for _ in range(5)))
    batch = one.take(0)
    assert batch is not None
    assert batch.rows == 5


def test_batches_are_as_large_as_is_worth_it() -> None:
    assert scheduler(fixed_ns=0.0, row_ns=MS).cap == 1
    assert scheduler(fixed_ns=MS, row_ns=0.0).cap == 8


def test_a_preferred_size_is_taken_before_a_larger_batch() -> None:
    one = scheduler({"preferred_batch_size": [2, 4]})
    admitted(one, *(made() for _ in range(7)))
    assert [len(taken(one)) for _ in range(3)] == [4, 2, 1]


def test_what_the_warm_up_timed_badly_is_tried_soon() -> None:
    times = times_of(0.0, 1.0 * MS, (1, 2))
    times.observe(8, 80.0 * MS)  # a stall, ten times as long as it takes
    one = Scheduler(settings_of(), (1, 2, 8), times=times)
    assert one.cap < 8
    keep_up(one, 64)
    assert one.cap == 8


def test_a_size_that_looked_bad_once_is_tried_afresh() -> None:
    batcher = Scheduler(settings_of(), (1, 2, 3, 4))
    for size in (1, 2, 3, 4):
        batcher.times.observe(size, 100.0 if size < 3 else 1000.0)
    batcher.review()
    assert batcher.cap == 2
    batcher.review(afresh=True)
    assert batcher.cap == 4
    for _ in range(100):
        batcher.times.observe(3, 100.0)
        batcher.times.observe(4, 100.0)
    batcher.review()
    assert batcher.cap == 4
