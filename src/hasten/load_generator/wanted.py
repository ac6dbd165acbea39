"""What a user asks of a load run, checked before anything is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from hasten.errors import OptionError
from hasten.load_generator.arrivals import Arrivals, Constant, Poisson, Replay, read_arrivals
from hasten.load_generator.payload import Tensors
from hasten.load_generator.protocol import Closed, Open
from hasten.load_generator.scenarios import SCENARIOS, Scenario, pattern_of

__all__ = ["Wanted"]


@dataclass(frozen=True)
class Wanted:
    """How a server is to be loaded.

    ``scenario`` None is server where there is a rate or arrivals, else closed. ``arrivals`` is
    constant, poisson or the path of a recording. ``batch`` is samples a query, None the scenario's
    own. ``queries`` is the least number to send, whatever the duration.
    """

    scenario: str | None = None
    concurrency: int | None = None
    rate_per_s: float | None = None
    arrivals: str | None = None
    duration_s: float = 10.0
    queries: int = 0
    batch: int | None = None
    p99_ms: float | None = None
    data: str | None = None
    expected: Path | None = None
    tensors: Tensors = "binary"
    warm_up_s: float = 1.0
    timeout_s: float = 10.0
    connections: int = 512
    seed: int = 0

    @property
    def rules(self) -> Scenario:
        """The scenario; raises OptionError for a name that is none."""
        name = self.scenario
        if name is None:
            opened = self.rate_per_s is not None or self.arrivals is not None
            name = "server" if opened else "closed"
        if name not in SCENARIOS:
            raise OptionError(expected=", ".join(SCENARIOS), got=repr(name), where="--scenario")
        return SCENARIOS[name]

    @property
    def samples_per_query(self) -> int:
        """Samples in each request."""
        return self.batch or self.rules.samples_per_query

    def check(self, *, needs_rate: bool = True) -> None:
        """Raise OptionError for what cannot be done, or does not go together."""
        for value, flag in (
            (self.rate_per_s, "--rate"),
            (self.p99_ms, "--p99-ms"),
            (self.duration_s, "--duration"),
            (self.timeout_s, "--timeout"),
        ):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise OptionError(expected="a number above 0", got=f"{value:g}", where=flag)
        for count, flag in (
            (self.concurrency, "--concurrency"),
            (self.batch, "--batch"),
            (self.connections, "--connections"),
        ):
            if count is not None and count < 1:
                raise OptionError(expected="1 or more", got=str(count), where=flag)
        if self.queries < 0:
            raise OptionError(expected="0 or more", got=str(self.queries), where="--queries")
        if self.expected is not None and self.data is None:
            raise OptionError(
                expected="--data, for what the expected outputs are of",
                got="--expected alone",
                where="--expected",
            )
        self._check_scenario(needs_rate=needs_rate)

    def _check_scenario(self, *, needs_rate: bool) -> None:
        rules = self.rules
        if not rules.open:
            for given, flag in ((self.rate_per_s, "--rate"), (self.arrivals, "--arrivals")):
                if given is not None:
                    raise OptionError(
                        expected="--scenario server", got=f"--scenario {rules.name}", where=flag
                    )
            if rules.concurrency == 1 and self.concurrency not in (None, 1):
                raise OptionError(
                    expected=f"one request at a time in --scenario {rules.name}",
                    got=str(self.concurrency),
                    where="--concurrency",
                )
            return
        if self.concurrency is not None:
            raise OptionError(
                expected="--scenario closed or offline",
                got=f"--scenario {rules.name}",
                where="--concurrency",
            )
        recorded = self.arrivals not in (None, "constant", "poisson")
        if recorded and self.rate_per_s is not None:
            raise OptionError(
                expected="no --rate, for the recording has its own", got="both", where="--arrivals"
            )
        if needs_rate and not recorded and self.rate_per_s is None:
            raise OptionError(expected="a rate to send at", got="none", where="--rate")
        if recorded and self.arrivals is not None:
            read_arrivals(Path(self.arrivals))

    def arriving(self, rate_per_s: float | None, seed: int) -> Arrivals:
        """Return the arrivals at a rate, or those that were recorded."""
        if self.arrivals not in (None, "constant", "poisson"):
            return read_arrivals(Path(self.arrivals))
        assert rate_per_s is not None  # noqa: S101 - check() has seen to it
        if self.arrivals == "constant":
            return Constant(rate_per_s)
        return Poisson(rate_per_s, seed)

    def pattern(self) -> Closed | Open:
        """Return what the generator is to do in a run of these settings."""
        rules = self.rules
        arrivals = self.arriving(self.rate_per_s, self.seed) if rules.open else None
        return pattern_of(
            rules,
            concurrency=self.concurrency,
            arrivals=arrivals,
            duration_s=self.duration_s,
            queries=self.queries,
        )

    def warm_up(self) -> Closed | Open:
        """Return the same for the warm-up; its arrivals are others."""
        if self.rules.open and self.rate_per_s is not None:
            arrivals = self.arriving(self.rate_per_s, self.seed + 1_000_003)
            if not isinstance(arrivals, Replay):
                return Open(arrivals, int(self.warm_up_s * 1e9))
        concurrency = self.concurrency or self.rules.concurrency
        return Closed(concurrency, int(self.warm_up_s * 1e9))

    def at(self, rate_per_s: float, seed: int) -> Wanted:
        """Return the same at another rate, with another seed."""
        return replace(self, rate_per_s=rate_per_s, seed=seed)
