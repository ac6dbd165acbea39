"""Before a model is ready: each batch size is run, and how large a batch pays is measured."""

from __future__ import annotations

import threading
from functools import cache
from queue import SimpleQueue
from time import perf_counter_ns
from typing import TYPE_CHECKING

import msgspec

from hasten.serve.engine.batch_times import BatchTimes

if TYPE_CHECKING:
    from hasten.serve.engine.runner import Runner

__all__ = ["WarmedUp", "handoff_ns", "unwarmed", "warm_up"]

#: The largest batch that is tried where the settings name none.
_LARGEST = 64
_LARGEST_UNWARMED = 8
#: A model is worth all sizes, not only powers of two, where running them once takes no longer.
_ALL_SIZES_NS = 300_000_000
#: A size is worth it where a row takes at most this share of what it takes in a smaller batch;
#: less where it needs a session, and so memory, of its own. Two in a row that are not end the
#: search.
_GAIN, _GAIN_OF_SESSION = 0.97, 0.93
_PATIENCE = 2
_HANDOFFS = 50


class WarmedUp(msgspec.Struct, frozen=True):
    """What was learnt: batch sizes to run, rising, and their times."""

    sizes: tuple[int, ...]
    times: BatchTimes


def warm_up(runner: Runner, largest: int | None, *, any_batch: bool) -> WarmedUp:
    """Run every batch size that will be used, and find out which those are.

    ``largest`` is the limit that the settings give: 0 for no batches, None for as large as pays.
    Raises RuntimeFailureError where the model cannot run.
    """
    times = BatchTimes()
    runner.prepare(1)
    times.observe(1, runner.time(1))
    limit = _LARGEST if largest is None else max(1, largest)
    best, tried, poor = 1, [1], 0
    gain = _GAIN if any_batch else _GAIN_OF_SESSION
    for size in _doubling(limit):
        runner.prepare(size)
        times.observe(size, runner.time(size))
        tried.append(size)
        if times.expect(size) / size < gain * times.expect(best) / best:
            best, poor = size, 0
            continue
        poor += 1
        if poor == _PATIENCE:
            break
    for size in tried:
        if size > best:
            runner.forget(size)
    sizes = [size for size in tried if size <= best]
    if any_batch and times.expect(best) * best / 2 < _ALL_SIZES_NS:
        sizes = list(range(1, best + 1))
    for size in set(sizes) - set(tried):
        runner.prepare(size)
        times.observe(size, runner.time(size))
    return WarmedUp(tuple(sizes), times)


def unwarmed(largest: int | None) -> WarmedUp:
    """Return what there is to begin with where nothing could be run: times are learnt later."""
    limit = _LARGEST_UNWARMED if largest is None else max(1, largest)
    return WarmedUp((1, *_doubling(limit)), BatchTimes())


def _doubling(limit: int) -> list[int]:
    """Powers of two above 1, and the limit itself.

    >>> _doubling(12), _doubling(1)
    ([2, 4, 8, 12], [])
    """
    sizes = [2**power for power in range(1, limit.bit_length()) if 2**power < limit]
    return [*sizes, limit] if limit > 1 else []


@cache
def handoff_ns() -> int:
    """Measure what it takes to hand work to another thread and back: the median of a few.

    Measured once: it is the machine's, whatever the model.
    """
    there: SimpleQueue[int | None] = SimpleQueue()
    back: SimpleQueue[int] = SimpleQueue()

    def answer() -> None:
        while there.get() is not None:
            back.put(0)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    times = []
    for _ in range(_HANDOFFS):
        begin = perf_counter_ns()
        there.put(0)
        back.get()
        times.append(perf_counter_ns() - begin)
    there.put(None)
    thread.join()
    return sorted(times)[_HANDOFFS // 2]
