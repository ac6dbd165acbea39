"""Ways to load a server, each with the figure it is judged by.

Four are MLPerf's (Reddi et al., MLPerf Inference Benchmark, ISCA 2020; the minimums are those of
loadgen/mlperf.conf in https://github.com/mlcommons/inference, version 5.1). A run that is shorter
than a minimum is measured all the same, and says so.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hasten.load_generator.arrivals import Arrivals
from hasten.load_generator.protocol import Closed, Open

__all__ = ["SCENARIOS", "Scenario", "ScenarioName", "pattern_of"]

ScenarioName = Literal["closed", "server", "offline", "single-stream", "multi-stream"]
Figure = Literal["rate", "samples", "percentile"]


class Scenario(msgspec.Struct, frozen=True):
    """How requests are sent, and what MLPerf asks of a run; 0 is no minimum.

    ``figure`` is what the scenario is judged by: the rate of good answers, samples a second, or
    the latency at ``percent``. ``open`` ones follow arrivals, others send when answered.
    """

    name: ScenarioName
    figure: Figure
    percent: float
    open: bool = False
    samples_per_query: int = 1
    concurrency: int = 1
    min_duration_s: float = 0
    min_queries: int = 0
    min_samples: int = 0

    def shortfalls(self, duration_s: float, queries: int, samples: int) -> list[str]:
        """Say in which ways a run is shorter than MLPerf asks."""
        pairs = (
            (self.min_duration_s, duration_s, "s"),
            (self.min_queries, queries, "queries"),
            (self.min_samples, samples, "samples"),
        )
        return [
            f"{have:,.0f} {unit} of the {least:,.0f} that MLPerf asks of {self.name}"
            for least, have, unit in pairs
            if have < least
        ]


#: Every scenario by name; ``closed`` is not MLPerf's.
SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("closed", "rate", 99, concurrency=8),
        # Poisson arrivals, the 99th percentile within the bound; as many queries as let early
        # stopping speak of that percentile.
        Scenario("server", "percentile", 99, open=True, min_duration_s=600, min_queries=662),
        # All samples at once: as many as the connections take, the rest behind them.
        Scenario("offline", "samples", 99, concurrency=64, min_duration_s=600, min_samples=24_576),
        # One query at a time, judged by the 90th percentile.
        Scenario("single-stream", "percentile", 90, min_duration_s=600, min_queries=64),
        # One query of eight samples at a time, judged by the 99th percentile.
        Scenario(
            "multi-stream",
            "percentile",
            99,
            samples_per_query=8,
            min_duration_s=600,
            min_queries=662,
        ),
    )
}


def pattern_of(
    scenario: Scenario,
    *,
    concurrency: int | None,
    arrivals: Arrivals | None,
    duration_s: float,
    queries: int,
) -> Closed | Open:
    """Return what the generator is to do; ``arrivals`` are there where the scenario is open."""
    duration_ns = int(duration_s * 1e9)
    if arrivals is not None:
        return Open(arrivals, duration_ns, queries)
    return Closed(concurrency or scenario.concurrency, duration_ns, queries)
