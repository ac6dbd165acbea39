"""Two servers in one run: loaded in turns, A B B A, so that both meet the same weather."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import msgspec

from hasten.load.generator import Generator
from hasten.load.record import Answer, Record
from hasten.load.result import LoadResult
from hasten.load.run import Side, describe, shares
from hasten.load.server import Server
from hasten.load.wanted import Wanted
from hasten.measure.statistics import Interval, Verdict, speedup, verdict
from hasten.progress import Progress

__all__ = ["LoadComparison", "Ratio", "compare_loads"]

#: Blocks of each server; the control has half as many pairs.
_PAIRS = 10
_PERCENTS = (50, 90, 99)


class Ratio(msgspec.Struct, frozen=True):
    """How many times better B is in one figure: the median over pairs of blocks."""

    figure: str
    gain: Interval | None
    control: Interval | None
    verdict: Verdict | None


class LoadComparison(msgspec.Struct, frozen=True):
    """Before and after; ``sentence`` says of the scenario's own figure what may be said.

    A gain above 1 is more requests a second, or a shorter latency. ``control`` is A against itself,
    every other block of it. A figure without a gain fell on requests that missed.
    """

    a: LoadResult
    b: LoadResult
    ratios: list[Ratio]
    sentence: str
    pairs: int
    block_s: float
    unmet: list[str]
    void: str


def compare_loads(
    a: tuple[Server, str | None],
    b: tuple[Server, str | None],
    wanted: Wanted,
    *,
    scratch: Path,
    progress: Progress,
) -> LoadComparison:
    """Load two servers in turns; each gets the whole duration, in blocks.

    Raises InputError for what cannot be asked of either.
    """
    wanted.check()
    block = replace(wanted, duration_s=wanted.duration_s / _PAIRS, queries=0)
    records: tuple[list[Record], list[Record]] = ([], [])
    with Generator() as generator:
        sides = [
            Side.open(generator, server, model, wanted, scratch / name)
            for name, (server, model) in (("a", a), ("b", b))
        ]
        with shares(progress, "loading both in turns") as advance:
            for side in sides:
                if wanted.warm_up_s > 0:
                    generator.fire(side.number, wanted.warm_up())
            for pair in range(_PAIRS):
                at = replace(block, seed=wanted.seed + pair)
                for which in (0, 1) if pair % 2 == 0 else (1, 0):
                    fired = generator.fire(sides[which].number, at.pattern())
                    records[which].append(fired)
                advance((pair + 1) / _PAIRS)
    results = [
        describe(_together(record), side, wanted)
        for record, side in zip(records, sides, strict=True)
    ]
    ratios = [
        _ratio(name, [figure(r) for r in records[0]], [figure(r) for r in records[1]])
        for name, figure in _FIGURES.items()
    ]
    return LoadComparison(
        *results,
        ratios,
        _sentence(ratios, wanted),
        _PAIRS,
        block.duration_s,
        [f"{name}: {goal}" for name, one in zip("AB", results, strict=True) for goal in one.unmet],
        "; ".join(
            f"{name}: {one.void}" for name, one in zip("AB", results, strict=True) if one.void
        ),
    )


def _cost(record: Record) -> float | None:
    return 1 / record.rate_per_s if record.rate_per_s else None


#: What is compared; each is a cost, of which less is better.
_FIGURES = {
    "requests/s": _cost,
    **{f"p{at}": lambda record, at=at: record.percentile_ms(at) for at in _PERCENTS},
}


def _ratio(name: str, before: Sequence[float | None], after: Sequence[float | None]) -> Ratio:
    left = [one for one in before if one is not None]
    right = [one for one in after if one is not None]
    if len(left) < len(before) or len(right) < len(after):
        return Ratio(name, None, None, None)
    gain = speedup([left], [right])
    control = speedup([left[::2]], [left[1::2]])
    return Ratio(name, gain, control, verdict(gain, control))


def _sentence(ratios: Sequence[Ratio], wanted: Wanted) -> str:
    rules = wanted.rules
    name = f"p{rules.percent:g}" if rules.figure == "percentile" else "requests/s"
    ratio = next(one for one in ratios if one.figure == name)
    if ratio.gain is None:
        return f"{name}: no figure, for too many requests missed"
    what = "throughput" if name == "requests/s" else f"{name} of the latency"
    if ratio.verdict == "no measurable difference":
        return f"no measurable difference in the {what}: {ratio.gain}"
    return f"B is {ratio.verdict}, {what}: {ratio.gain}"


def _together(records: Sequence[Record]) -> Record:
    return reduce(_sum, records)


def _sum(a: Record, b: Record) -> Record:
    misses = {kind: a.misses.get(kind, 0) + b.misses.get(kind, 0) for kind in a.misses | b.misses}
    window = a.window_ns + b.window_ns
    busy = a.busy_share * a.window_ns + b.busy_share * b.window_ns
    return Record(
        a.latency.merged(b.latency),
        a.service.merged(b.service),
        a.lag.merged(b.lag),
        misses,
        a.first_problem or b.first_problem,
        a.issued + b.issued,
        a.ended_in_window + b.ended_in_window,
        window,
        a.elapsed_ns + b.elapsed_ns,
        busy / max(window, 1),
        max(a.connections, b.connections),
        a.paced,
        a.gave_up or b.gave_up,
        _counted(a.answers, b.answers),
        a.unchecked + b.unchecked,
    )


def _counted(a: Sequence[Answer], b: Sequence[Answer]) -> list[Answer]:
    counts: dict[tuple[int, int | None, bytes], int] = {}
    for one in (*a, *b):
        key = (one.request, one.json_bytes, one.body)
        counts[key] = counts.get(key, 0) + one.count
    return [Answer(*key, count) for key, count in counts.items()]
