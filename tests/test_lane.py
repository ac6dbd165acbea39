"""A lane from arrival to answer, driven by an event loop in this process, with real executors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter_ns
from typing import Any, cast

import numpy as np
import pytest

from hasten.errors import (
    ExecutionLimitError,
    HastenError,
    InvalidRequestError,
    OverloadedError,
    RuntimeFailureError,
)
from hasten.serve.engine.inline import Inline
from hasten.serve.engine.lane import Lane
from hasten.serve.engine.ordering import Ordering
from hasten.serve.engine.padding import Entry
from hasten.serve.engine.request import Batch, BatchResult, Request
from hasten.serve.engine.runner import Runner
from hasten.serve.engine.statistics import ModelStatistics
from hasten.serve.engine.suspects import Origin
from scheduling import scheduler

PATIENCE_S = 10.0
#: What the loop may run itself.
INLINE_NS = 1_000_000


class Doubling:
    """A runner that doubles; a batch waits at the gate while that is shut, and fails on a NaN.

    One with an infinity in it waits for the gate until it is stopped, if it ``obeys``.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.ran: list[list[float]] = []
        self.on_loop: list[bool] = []
        self.run_ns = 0
        self.obeys = True
        self.stopped = threading.Event()
        self.closed = False

    def run(self, batch: Batch) -> None:
        self.begun.release()
        batch.begin_ns = perf_counter_ns()
        x = np.concatenate([one.inputs[0] for one in batch.requests])
        self.ran.append(x.ravel().tolist())
        self.on_loop.append(threading.current_thread() is threading.main_thread())
        if np.isinf(x).any() and self.obeys:
            assert self.stopped.wait(PATIENCE_S)
            raise RuntimeError("told to end")
        assert self.gate.wait(PATIENCE_S)
        if np.isnan(x).any():
            raise RuntimeError("no number")
        batch.run_ns = self.run_ns
        batch.result = BatchResult((2 * x,), batched=True)

    def stop(self, *, asked: bool) -> None:
        if asked:
            self.stopped.set()
        else:
            self.stopped.clear()

    def close(self) -> None:
        self.closed = True


class Bench:
    """A lane with runners, and what came of each request in the order of the answers."""

    def __init__(self, *, executors: int, inline: bool, **more: Any) -> None:
        self.runners = [Doubling() for _ in range(executors)]
        self.statistics = ModelStatistics()
        ordered = more.pop("preserve_ordering", False)
        limit_s = more.pop("limit_s", PATIENCE_S)
        known_rows = more.pop("known_rows", 8)
        self.lane = Lane(
            "test",
            asyncio.get_running_loop(),
            scheduler(executors=executors, **more),
            cast("Sequence[Runner]", self.runners),
            self.statistics,
            inline=Inline(INLINE_NS, known_rows) if inline else None,
            limit_ns=int(limit_s * 1e9),
        )
        self.entry: Entry = Ordering(self.lane) if ordered else self.lane
        self.answers: list[float | HastenError] = []

    def ask(self, value: float, origin: Origin | None = None) -> Request:
        """Submit a request of one row."""
        x = np.array([[value]])
        request = Request((x,), 1, (), self._answered, perf_counter_ns())
        request.origin = origin
        self.entry.submit(request, 0)
        return request

    def _answered(self, request: Request, result: BatchResult | HastenError, start: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        if isinstance(result, BatchResult):
            self.answers.append(float(result.outputs[0][start, 0]))
        else:
            self.answers.append(result)

    async def answered(self, count: int) -> list[float | HastenError]:
        """Wait for so many answers."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.answers) < count:
                await asyncio.sleep(0.001)
        return self.answers

    async def begun(self, runner: Doubling) -> None:
        """Wait until the runner has begun another batch."""
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, runner.begun.acquire, True, PATIENCE_S)

    async def occupied(self) -> Doubling:
        """Ask for 1, and hold the only runner in that batch until its gate is set."""
        (runner,) = self.runners
        runner.gate.clear()
        self.ask(1)
        await self.begun(runner)
        return runner

    async def both_occupied(self) -> None:
        """Ask for 1 and then 2, and hold a runner in each of these batches."""
        for runner in self.runners:
            runner.gate.clear()
        self.ask(1)
        await asyncio.sleep(0.01)
        self.ask(2)
        for runner in self.runners:
            await self.begun(runner)


def driven(
    work: Callable[[Bench], Awaitable[None]],
    *,
    executors: int = 1,
    inline: bool = False,
    **more: Any,
) -> Bench:
    """Let a lane do this work, and close it."""

    async def whole() -> Bench:
        bench = Bench(executors=executors, inline=inline, **more)
        try:
            await work(bench)
        finally:
            for runner in bench.runners:
                runner.gate.set()
            await asyncio.wait_for(bench.lane.close(), PATIENCE_S)
        return bench

    return asyncio.run(whole())


INLINE = pytest.mark.parametrize("inline", [True, False])


@INLINE
def test_requests_of_one_turn_of_the_loop_share_a_batch(*, inline: bool) -> None:
    async def work(bench: Bench) -> None:
        for value in (1, 2, 3):
            bench.ask(value)
        assert await bench.answered(3) == [2, 4, 6]

    bench = driven(work, inline=inline)
    assert bench.runners[0].ran == [[1, 2, 3]]
    assert bench.statistics.success_requests == 3
    assert bench.statistics.executions == 1


def test_what_came_while_a_batch_ran_is_the_next_batch() -> None:
    async def work(bench: Bench) -> None:
        runner = await bench.occupied()
        for value in (2, 3):
            bench.ask(value)
            await asyncio.sleep(0)
        assert bench.lane.waiting == 2
        runner.gate.set()
        assert await bench.answered(3) == [2, 4, 6]

    assert driven(work).runners[0].ran == [[1], [2, 3]]


def test_executors_run_side_by_side() -> None:
    async def work(bench: Bench) -> None:
        await bench.both_occupied()

    assert sorted(one.ran for one in driven(work, executors=2).runners) == [[[1]], [[2]]]


@pytest.mark.parametrize("preserve_ordering", [True, False])
def test_answers_keep_the_order_of_arrival_where_that_is_asked_for(
    *, preserve_ordering: bool
) -> None:
    async def work(bench: Bench) -> None:
        await bench.both_occupied()
        slow = next(one for one in bench.runners if one is not _runner_of(bench, 2))
        fast = _runner_of(bench, 2)
        fast.gate.set()
        if not preserve_ordering:
            assert await bench.answered(1) == [4]
        await asyncio.sleep(0.01)
        slow.gate.set()
        await bench.answered(2)

    bench = driven(work, executors=2, preserve_ordering=preserve_ordering)
    assert bench.answers == ([2, 4] if preserve_ordering else [4, 2])


def _runner_of(bench: Bench, number: int) -> Doubling:
    """The runner of the n-th batch: the idle executor that was added last is taken first."""
    return bench.runners[-number]


NAN = float("nan")


@INLINE
def test_a_request_that_fails_alone_is_told_that_its_input_is_at_fault(*, inline: bool) -> None:
    async def work(bench: Bench) -> None:
        bench.ask(NAN)
        (error,) = await bench.answered(1)
        assert isinstance(error, InvalidRequestError)
        assert "no number" in str(error)
        bench.ask(1)
        assert (await bench.answered(2))[1] == 2

    bench = driven(work, inline=inline)
    assert bench.statistics.failures["BACKEND"] == 1
    assert bench.statistics.success_requests == 1


@INLINE
def test_only_those_fail_who_make_a_batch_fail(*, inline: bool) -> None:
    async def work(bench: Bench) -> None:
        for value in (1, 2, NAN, 4, 5, 6, NAN, 8):
            bench.ask(value)
        await bench.answered(8)

    bench = driven(work, inline=inline)
    assert [one if isinstance(one, float) else type(one) for one in bench.answers] == [
        *(2, 4, InvalidRequestError, 8, 10, 12, InvalidRequestError, 16)
    ]
    statistics = bench.statistics
    assert (statistics.success_requests, statistics.inferences) == (6, 6)
    assert statistics.failures == {"BACKEND": 2}
    assert 0 < statistics.reruns == len(bench.runners[0].ran) - 1 <= 2 * 2 * 3


def test_a_model_that_fails_for_all_is_at_fault_itself() -> None:
    async def work(bench: Bench) -> None:
        for count in range(1, 5):
            bench.ask(NAN, Origin(f"10.0.0.{count}"))
            await bench.answered(count)
        bench.ask(1)
        bench.ask(NAN)
        await bench.answered(6)

    kinds = [type(one) for one in driven(work).answers]
    assert kinds[:2] == [InvalidRequestError] * 2
    assert kinds[2:4] == [RuntimeFailureError] * 2
    assert kinds[4:] == [float, InvalidRequestError]  # it is well again


@INLINE
def test_who_made_a_batch_fail_shares_none_until_it_was_answered_often(*, inline: bool) -> None:
    bad = Origin("10.0.0.1")

    async def work(bench: Bench) -> None:
        bench.ask(NAN, bad)
        await bench.answered(1)
        for turn in range(1, 7):
            for value, origin in ((1, None), (2, bad), (3, None)):
                bench.ask(value, origin)
            await bench.answered(1 + 3 * turn)

    bench = driven(work, inline=inline)
    assert bench.runners[0].ran[1:] == [[1, 3], [2]] * 4 + [[1, 2, 3]] * 2
    assert bench.statistics.apart == 4


# What the loop runs itself


def driven_one_by_one(values: Sequence[float], run_ns: Sequence[int], known_rows: int) -> Bench:
    """Ask for one after another, whose runs take so long."""

    async def work(bench: Bench) -> None:
        for at, value in enumerate(values):
            bench.runners[0].run_ns = run_ns[at]
            bench.ask(value)
            assert (await bench.answered(at + 1))[at] == 2 * value

    return driven(work, inline=True, known_rows=known_rows)


@pytest.mark.parametrize("known_rows", [0, 8])
def test_the_loop_runs_what_an_executor_ran_in_a_short_time(known_rows: int) -> None:
    bench = driven_one_by_one([1, 2, 3], [0, 0, 0], known_rows)
    assert bench.runners[0].on_loop == [known_rows > 0, True, True]


def test_the_loop_runs_nothing_that_takes_long() -> None:
    bench = driven_one_by_one([1, 2, 3], [2 * INLINE_NS] * 3, 0)
    assert bench.runners[0].on_loop == [False] * 3


def test_what_took_long_on_the_loop_is_timed_anew_elsewhere() -> None:
    bench = driven_one_by_one([1, 2, 3, 4], [20 * INLINE_NS + 1, INLINE_NS + 1, 0, 0], 8)
    assert bench.runners[0].on_loop == [True, False, False, True]


def test_a_batch_that_failed_on_the_loop_is_run_again_elsewhere() -> None:
    async def work(bench: Bench) -> None:
        for value in (1, NAN, 3):
            bench.ask(value)
        await bench.answered(3)

    on_loop = driven(work, inline=True).runners[0].on_loop
    assert on_loop == [True] + [False] * (len(on_loop) - 1)


# The execution limit

INFINITE = float("inf")


@INLINE
def test_a_run_that_passes_its_limit_is_stopped_and_harms_no_other(*, inline: bool) -> None:
    async def work(bench: Bench) -> None:
        bench.ask(1)
        bench.ask(INFINITE)
        bench.ask(3)
        await bench.answered(3)
        assert bench.lane.trouble == ""
        bench.ask(4)
        await bench.answered(4)

    bench = driven(work, inline=inline, known_rows=0, limit_s=0.05)
    kinds = [one if isinstance(one, float) else type(one) for one in bench.answers]
    assert kinds == [2, ExecutionLimitError, 6, 8]
    assert bench.statistics.failures == {"BACKEND": 1}


@INLINE
def test_an_executor_that_does_not_come_back_makes_the_model_unready(*, inline: bool) -> None:
    async def work(bench: Bench) -> None:
        runner = await bench.occupied()
        bench.ask(2)
        first, second = await bench.answered(2)
        assert isinstance(first, ExecutionLimitError)
        assert isinstance(second, OverloadedError)
        assert "1 of 1 executors" in bench.lane.trouble
        with pytest.raises(OverloadedError, match="not ready"):
            bench.ask(3)
        runner.gate.set()
        async with asyncio.timeout(PATIENCE_S):
            while bench.lane.trouble:
                await asyncio.sleep(0.001)
        bench.ask(4)
        assert (await bench.answered(3))[2] == 8

    bench = driven(work, inline=inline, known_rows=0, limit_s=0.05)
    assert len(bench.answers) == 3
    assert bench.runners[0].closed


def test_other_executors_go_on_without_one_that_is_lost() -> None:
    async def work(bench: Bench) -> None:
        await bench.both_occupied()
        _runner_of(bench, 2).gate.set()
        assert len(await bench.answered(2)) == 2
        assert "1 of 2 executors" in bench.lane.trouble
        bench.ask(3)
        assert (await bench.answered(3))[2] == 6

    driven(work, executors=2, limit_s=0.05)


def test_closing_does_not_wait_for_an_executor_that_is_lost() -> None:
    async def work() -> Bench:
        bench = Bench(executors=1, inline=False, limit_s=0.05)
        runner = await bench.occupied()
        await asyncio.wait_for(bench.lane.close(), PATIENCE_S)
        assert isinstance(bench.answers[0], ExecutionLimitError)
        assert not runner.closed
        runner.gate.set()
        async with asyncio.timeout(PATIENCE_S):
            while not runner.closed:
                await asyncio.sleep(0.001)
        return bench

    assert len(asyncio.run(work()).answers) == 1


# Cancelled requests


def test_a_cancelled_request_is_neither_run_nor_answered_and_holds_no_input() -> None:
    async def work(bench: Bench) -> None:
        runner = await bench.occupied()
        waits = bench.ask(2)
        bench.ask(3)
        for _ in range(2):
            bench.lane.cancel(waits)
        assert waits.inputs == ()
        runner.gate.set()
        await bench.answered(2)

    bench = driven(work)
    assert bench.runners[0].ran == [[1], [3]]
    assert bench.answers == [2, 6]
    assert bench.statistics.failures["CANCELED"] == 1


def test_a_request_that_is_cancelled_while_it_runs_is_not_answered() -> None:
    async def work(bench: Bench) -> None:
        (runner,) = bench.runners
        runner.gate.clear()
        runs = bench.ask(1)
        await bench.begun(runner)
        bench.lane.cancel(runs)
        runner.gate.set()
        bench.ask(2)
        await bench.answered(1)

    bench = driven(work)
    assert bench.answers == [4]
    assert bench.runners[0].ran == [[1], [2]]


@INLINE
def test_closing_lets_what_waits_end_and_takes_no_more(*, inline: bool) -> None:
    async def work(bench: Bench) -> None:
        bench.ask(1)
        closing = asyncio.ensure_future(bench.lane.close())
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="unloaded"):
            bench.ask(2)
        await asyncio.wait_for(closing, PATIENCE_S)
        assert bench.answers == [2]
        assert all(one.closed for one in bench.runners)

    async def whole() -> None:
        await work(Bench(executors=1, inline=inline))

    asyncio.run(whole())


def test_a_queue_that_is_full_refuses_and_counts() -> None:
    async def work(bench: Bench) -> None:
        await bench.occupied()
        bench.ask(2)
        with pytest.raises(OverloadedError):
            bench.ask(3)

    policy = {"default_queue_policy": {"max_queue_size": 1}}
    bench = driven(work, batching=policy)
    assert bench.answers == [2, 4]
    assert bench.statistics.failures["REJECTED"] == 1


def test_one_that_waits_too_long_is_told_so_while_the_executor_is_busy() -> None:
    async def work(bench: Bench) -> None:
        await bench.occupied()
        bench.ask(2)
        (error,) = await bench.answered(1)
        assert isinstance(error, HastenError)

    policy = {"default_queue_policy": {"default_timeout_microseconds": 20_000}}
    bench = driven(work, batching=policy)
    assert bench.runners[0].ran == [[1]]
