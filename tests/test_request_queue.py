"""The queue of requests: by priority, deadline and arrival, each shape for itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hasten.serve.engine.queue import RequestQueue
from hasten.serve.engine.request import Request
from scheduling import made

Kind = tuple[int, int, int]


def filled(kinds: list[Kind]) -> tuple[RequestQueue, list[Request]]:
    """Requests of these priorities, deadlines and keys."""
    queue, requests = RequestQueue(), []
    for sequence, (priority, deadline, key) in enumerate(kinds):
        request = made(priority=priority, deadline=deadline, key=key, rows=1 + sequence % 3)
        request.sequence = sequence
        queue.push(request)
        requests.append(request)
    return queue, requests


KINDS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(0, 2)), max_size=20)


def rank(request: Request) -> tuple[int, int, int]:
    return request.priority, request.deadline_ns, request.sequence


def emptied(queue: RequestQueue) -> list[Request]:
    found = []
    while (head := queue.head()) is not None:
        popped = queue.pop(head.key, head.rows)
        assert popped is head
        found.append(popped)
    return found


@given(KINDS)
def test_the_head_is_the_first_of_all(kinds: list[Kind]) -> None:
    queue, requests = filled(kinds)
    assert emptied(queue) == sorted(requests, key=rank)
    assert (len(queue), queue.rows) == (0, 0)


@given(KINDS, st.sets(st.integers(0, 19)))
def test_cancelled_requests_do_not_count_and_do_not_come(kinds: list[Kind], gone: set[int]) -> None:
    queue, requests = filled(kinds)
    left = []
    for at, request in enumerate(requests):
        if at in gone:
            queue.cancel(request)
        else:
            left.append(request)
    assert len(queue) == len(left)
    assert queue.rows == sum(request.rows for request in left)
    for priority in range(3):
        assert queue.waiting(priority) == sum(one.priority == priority for one in left)
    for key in range(3):
        assert queue.rows_of(key) == sum(one.rows for one in left if one.key == key)
    assert emptied(queue) == sorted(left, key=rank)


@given(KINDS, st.sets(st.integers(0, 19)))
def test_draining_takes_all_that_was_not_cancelled(kinds: list[Kind], gone: set[int]) -> None:
    queue, requests = filled(kinds)
    for at, request in enumerate(requests):
        if at in gone:
            queue.cancel(request)
    left = [request for request in requests if not request.cancelled]
    drained = queue.drain()
    assert sorted(drained, key=rank) == sorted(left, key=rank)
    assert not any(request.queued for request in requests)
    assert (len(queue), queue.rows, queue.head()) == (0, 0, None)


def test_a_request_with_too_many_rows_stays() -> None:
    queue = RequestQueue()
    queue.push(made(rows=3))
    assert queue.pop((), 2) is None
    assert len(queue) == 1


def test_rows_of_a_shape_that_does_not_wait_are_none() -> None:
    queue = RequestQueue()
    queue.push(made(rows=3, key="a"))
    queue.push(made(rows=3, key="c"))
    assert queue.rows_of("b") == 0
    assert queue.pop("b", 10) is None
