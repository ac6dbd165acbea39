"""The highest rate at which a server holds a goal for the 99th percentile.

As in MLPerf's rules for the server scenario a rate is searched with Poisson arrivals and then
confirmed: double until the goal breaks, bisect to 2 %, confirm three times with fresh seeds, and go
down where a confirmation fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from hasten.errors import OptionError
from hasten.load_generator.arrivals import Constant
from hasten.load_generator.generator import Generator
from hasten.load_generator.protocol import Closed, Open
from hasten.load_generator.record import Record
from hasten.load_generator.result import LoadResult, late_or_missed
from hasten.load_generator.run import Side, describe, shares
from hasten.load_generator.server import Server
from hasten.load_generator.wanted import Wanted
from hasten.progress import Progress

__all__ = ["Limit", "Trial", "find_limit", "search"]

Phase = Literal["double", "halve", "bisect", "confirm"]

_RESOLUTION = 1.02
_CONFIRMATIONS = 3
_LEAST_RATE_PER_S = 0.5
#: A first guess: this share of what one request after another makes.
_FIRST_SHARE = 0.5
_PROBE_S = 0.3
_SETTLING_S = 10.0
_SETTLING_RATE_PER_S = 20.0
_MOST_TRIALS = 80
#: A trial in which the generator lagged is repeated: it may have been a moment's disturbance.
_TRIES_UNTIL_VOID = 3
#: Once this share of a run is late the goal is lost, whatever is still to come: one percent may be.
_HOPELESS = 0.02


class Trial(msgspec.Struct, frozen=True):
    """One run of the search; ``void`` where the generator lagged, so that it says nothing."""

    phase: Phase
    rate_per_s: float
    seed: int
    holds: bool
    p99_ms: float | None
    missed: int
    gave_up: bool
    void: str = ""


class Limit(msgspec.Struct, frozen=True):
    """What the search found.

    ``rate_per_s`` held the goal in three confirmations; None where no rate did. ``at`` is the run
    that confirmed it last. ``void`` is set where it was the generator that could not go further:
    the server's limit is then not lower than the rate, and may be higher.
    """

    goal_p99_ms: float
    rate_per_s: float | None
    confirmations: int
    trials: list[Trial]
    at: LoadResult | None
    unmet: list[str]
    void: str


#: Runs at (phase, rate, seed) and says how it went.
Try = Callable[[Phase, float, int], Trial]


def search(attempt: Try, first_per_s: float, seed: int) -> tuple[float | None, list[Trial]]:
    """Search for the highest rate that holds; returns it, None for none, and all trials.

    Every trial has a seed of its own, counted up from ``seed``.
    """
    seeds = itertools.count(seed)
    trials: list[Trial] = []

    def holds(phase: Phase, rate: float) -> bool:
        trials.append(attempt(phase, rate, next(seeds)))
        return trials[-1].holds

    low, high = _bracket(holds, first_per_s)
    if low is None:
        return None, trials
    while high > low * _RESOLUTION:
        middle = (low * high) ** 0.5
        if holds("bisect", middle):
            low = middle
        else:
            high = middle
    step = _RESOLUTION
    while low >= _LEAST_RATE_PER_S and len(trials) < _MOST_TRIALS:
        if all(holds("confirm", low) for _ in range(_CONFIRMATIONS)):
            return low, trials
        low /= step
        step *= _RESOLUTION
    return None, trials


def _bracket(
    holds: Callable[[Phase, float], bool], first_per_s: float
) -> tuple[float | None, float]:
    """Return a rate that held and one that did not, a factor of two apart."""
    rate = first_per_s
    if holds("double", rate):
        while holds("double", rate * 2):
            rate *= 2
        return rate, rate * 2
    while rate > _LEAST_RATE_PER_S:
        rate /= 2
        if holds("halve", rate):
            return rate, rate * 2
    return None, rate


def find_limit(
    server: Server, model: str | None, wanted: Wanted, *, scratch: Path, progress: Progress
) -> Limit:
    """Find the limit of a server. Raises InputError for what cannot be asked."""
    if wanted.p99_ms is None:
        raise OptionError(expected="--p99-ms, the goal to hold", got="none", where="--find-limit")
    wanted.check(needs_rate=False)
    if not wanted.rules.open or wanted.arrivals not in (None, "constant", "poisson"):
        raise OptionError(
            expected="--scenario server with constant or poisson arrivals",
            got=wanted.arrivals or wanted.rules.name,
            where="--find-limit",
        )
    with Generator() as generator:
        side = Side.open(generator, server, model, wanted, scratch)
        return _Search(generator, side, wanted, wanted.p99_ms, progress).run()


class _Search:
    """The trials against one server."""

    def __init__(
        self, generator: Generator, side: Side, wanted: Wanted, goal_ms: float, progress: Progress
    ) -> None:
        self._generator, self._side, self._wanted = generator, side, wanted
        self._goal_ms, self._progress = goal_ms, progress
        self._goal_ns = int(goal_ms * 1e6)
        self._confirmed: LoadResult | None = None

    def run(self) -> Limit:
        probe = self._generator.fire(self._side.number, Closed(1, int(_PROBE_S * 1e9)))
        first = self._wanted.rate_per_s or max(1.0, probe.rate_per_s * _FIRST_SHARE)
        rate, trials = search(self._attempt, first, self._wanted.seed)
        beyond = [t for t in trials if t.void and (rate is None or t.rate_per_s > rate)]
        limited = bool(beyond) and not any(
            not t.holds and not t.void and t.rate_per_s > (rate or 0) for t in trials
        )
        goal = f"p99 within {self._goal_ms:g} ms"
        return Limit(
            self._goal_ms,
            rate,
            _CONFIRMATIONS if rate is not None else 0,
            trials,
            self._confirmed if rate is not None else None,
            [] if rate is not None or limited else [f"{goal}: no rate holds it"],
            f"beyond this rate {beyond[0].void}" if limited else "",
        )

    def _attempt(self, phase: Phase, rate: float, seed: int) -> Trial:
        at = self._wanted.at(rate, seed)
        for _ in range(_TRIES_UNTIL_VOID):
            record = self._fire(phase, at)
            void = record.void(self._goal_ns)
            if not void:
                break
        late = late_or_missed(record, self._goal_ns)
        holds = not void and not record.gave_up and late * 100 <= record.issued
        if holds and phase == "confirm":
            self._confirmed = describe(record, self._side, at)
        p99 = record.percentile_ms(99)
        return Trial(phase, rate, seed, holds, p99, record.missed, record.gave_up, void)

    def _fire(self, phase: Phase, at: Wanted) -> Record:
        self._settle()
        rate = at.rate_per_s or 0.0
        planned = max(rate * at.duration_s, at.queries)
        with shares(self._progress, f"{phase}: {rate:,.0f} requests/s") as advance:
            return self._generator.fire(
                self._side.number,
                at.pattern(),
                goal_ns=self._goal_ns,
                most_bad=int(planned * _HOPELESS),
                advance=advance,
            )

    def _settle(self) -> None:
        """Wait until the server has worked off what the trial before has left in its queues."""
        gently = Open(Constant(_SETTLING_RATE_PER_S), int(_PROBE_S * 1e9))
        for _ in range(int(_SETTLING_S / _PROBE_S)):
            probe = self._generator.fire(self._side.number, gently)
            typical_ns = probe.latency.percentile(50)
            if typical_ns is not None and typical_ns <= self._goal_ns:
                return
