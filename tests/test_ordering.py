"""Answers in the order of their requests, however they end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.errors import HastenError, OverloadedError
from hasten.serve.engine.ordering import Ordering
from hasten.serve.engine.request import BatchResult, Request
from scheduling import made

RESULT = BatchResult((), batched=True)


class Recorder:
    """Takes requests, one in so many not; whoever drives it ends them."""

    def __init__(self) -> None:
        self.full = False
        self.cancelled: list[Request] = []

    def submit(self, request: Request, timeout_us: int) -> None:
        if self.full:
            raise OverloadedError("full", retry_after_s=1.0)

    def cancel(self, request: Request) -> None:
        self.cancelled.append(request)


ENDS = st.lists(
    st.tuples(st.sampled_from(["answer", "fail", "cancel", "refuse"]), st.integers(0, 99)),
    max_size=12,
)


@given(ENDS)
def test_answers_come_in_the_order_of_requests_and_wait_for_no_other(
    ends: list[tuple[str, int]],
) -> None:
    entry = Recorder()
    ordering = Ordering(entry)
    answered: list[int] = []
    kinds: list[type] = []
    requests: dict[int, Request] = {}
    for at, (end, _) in enumerate(ends):
        request = made()

        def reply(_: Request, result: BatchResult | HastenError, start: int, at: int = at) -> None:
            assert start == at
            answered.append(at)
            kinds.append(type(result))

        request.reply = reply
        entry.full = end == "refuse"
        if entry.full:
            with pytest.raises(OverloadedError):
                ordering.submit(request, 0)
        else:
            ordering.submit(request, 0)
            requests[at] = request
    ended = {at for at, (end, _) in enumerate(ends) if end == "refuse"}
    for at in sorted(requests, key=lambda at: ends[at][1]):
        end, request = ends[at][0], requests[at]
        if end == "cancel":
            ordering.cancel(request)
        else:
            request.reply(request, RESULT if end == "answer" else HastenError("no"), at)
        ended.add(at)
        first = next((one for one in range(len(ends)) if one not in ended), len(ends))
        assert answered == [one for one in range(first) if ends[one][0] in {"answer", "fail"}]
    wanted = [end for end, _ in ends if end in {"answer", "fail"}]
    assert kinds == [BatchResult if end == "answer" else HastenError for end in wanted]
    assert entry.cancelled == [
        requests[at]
        for at in sorted(requests, key=lambda at: ends[at][1])
        if ends[at][0] == "cancel"
    ]


def test_one_that_is_cancelled_after_its_answer_came_is_not_told() -> None:
    ordering = Ordering(Recorder())
    first, second = made(), made()  # whoever is told raises
    for request in (first, second):
        ordering.submit(request, 0)
    second.reply(second, RESULT, 0)
    ordering.cancel(second)
    ordering.cancel(first)
