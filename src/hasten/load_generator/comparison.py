"""Two servers in one run: loaded in turns, A B B A, so that both meet the same weather."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from hasten.errors import OptionError
from hasten.load_generator.generator import Generator
from hasten.load_generator.record import Record
from hasten.load_generator.result import LoadResult
from hasten.load_generator.run import Side, describe, shares
from hasten.load_generator.server import Server
from hasten.load_generator.wanted import Wanted
from hasten.measure.statistics import Interval, Verdict, speedup, verdict
from hasten.progress import Progress

__all__ = ["LoadComparison", "Ratio", "compare_loads"]

#: Blocks of each server; the control has half as many pairs.
_PAIRS = 10


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
    if wanted.rules.open and wanted.arrivals not in (None, "constant", "poisson"):
        raise OptionError(
            expected="constant or poisson arrivals where two are compared",
            got=repr(wanted.arrivals),
            where="--arrivals",
        )
    block = replace(wanted, duration_s=wanted.duration_s / _PAIRS, queries=0)
    with Generator() as generator:
        sides = (
            Side.open(generator, *a, wanted, scratch / "a"),
            Side.open(generator, *b, wanted, scratch / "b"),
        )
        records = _in_turns(generator, sides, block, progress)
    before, after = (
        describe(Record.of(blocks), side, wanted)
        for blocks, side in zip(records, sides, strict=True)
    )
    ratios = [
        _ratio(name, [figure(r) for r in records[0]], [figure(r) for r in records[1]])
        for name, figure in _FIGURES.items()
    ]
    named = (("A", before), ("B", after))
    return LoadComparison(
        before,
        after,
        ratios,
        _sentence(ratios, wanted),
        _PAIRS,
        block.duration_s,
        [f"{name}: {goal}" for name, one in named for goal in one.unmet],
        "; ".join(f"{name}: {one.void}" for name, one in named if one.void),
    )


def _in_turns(
    generator: Generator, sides: tuple[Side, Side], block: Wanted, progress: Progress
) -> tuple[list[Record], list[Record]]:
    """Run the blocks; both of a pair have the same arrivals."""
    records: tuple[list[Record], list[Record]] = ([], [])
    with shares(progress, "loading both in turns") as advance:
        for side in sides:
            if block.warm_up_s > 0:
                generator.fire(side.number, block.warm_up())
        for pair in range(_PAIRS):
            pattern = replace(block, seed=block.seed + pair).pattern()
            for which in (0, 1) if pair % 2 == 0 else (1, 0):
                records[which].append(generator.fire(sides[which].number, pattern))
            advance((pair + 1) / _PAIRS)
    return records


def _cost(record: Record) -> float | None:
    return 1 / record.rate_per_s if record.rate_per_s else None


#: What is compared; each is a cost, of which less is better.
_FIGURES: dict[str, Callable[[Record], float | None]] = {
    "requests/s": _cost,
    "p50": lambda record: record.percentile_ms(50),
    "p90": lambda record: record.percentile_ms(90),
    "p99": lambda record: record.percentile_ms(99),
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
