"""Which execution of a model is fastest here, where nobody has measured that yet."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

from hasten.runtimes import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hasten.serve.engine.runner import Runner

__all__ = ["Choice", "choose"]

#: Rounds in which each is timed, and the time after which no other begins.
_ROUNDS = 5
_RACE_NS = 600_000_000
#: More threads are worth it where they take at most this share of the time: the cores they fill
#: also read requests and write answers.
_WORTH = 0.8


class Choice(NamedTuple):
    """An execution, what it is run with, and how others compared; empty where there were none."""

    execution: Execution
    runner: Runner
    reason: str = ""


def choose(
    executions: Sequence[Execution], opened: Callable[[Execution], Runner], sizes: Sequence[int]
) -> Choice:
    """Return the execution that runs one batch of each of ``sizes`` in the least time.

    ``executions`` rise in threads. They are timed in turns, each by the least of its times, so that
    all meet the same weather; the runners of the others are closed.
    """
    if len(executions) == 1:
        return Choice(executions[0], opened(executions[0]))
    runners = [opened(one) for one in executions]
    times = _raced(runners, sizes)
    best = 0
    for at, time in enumerate(times):
        if time <= _WORTH * times[best]:
            best = at
    for at, runner in enumerate(runners):
        if at != best:
            runner.close()
    compared = [
        f"{one} takes {time / times[best]:.2f} times as long"
        for one, time in zip(executions, times, strict=True)
        if one != executions[best]
    ]
    return Choice(executions[best], runners[best], ", ".join(compared))


def _raced(runners: Sequence[Runner], sizes: Sequence[int]) -> list[int]:
    """Return the nanoseconds that each takes for one batch of each size."""
    least: dict[tuple[int, int], int] = {}
    begin = perf_counter_ns()
    for _ in range(_ROUNDS):
        for at, runner in enumerate(runners):
            for size in sizes:
                runner.prepare(size)
                time = runner.time(size)
                least[at, size] = min(time, least.get((at, size), time))
        if perf_counter_ns() - begin > _RACE_NS:
            break
    for runner in runners:
        for size in sizes:
            runner.forget(size)
    return [sum(least[at, size] for size in sizes) for at in range(len(runners))]
