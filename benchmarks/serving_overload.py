"""What a server with a latency goal does at, and beyond, the highest rate that it can hold.

Run: python benchmarks/serving_overload.py. The demo's network with a goal of 25 ms. First the limit
is searched; then rates of a half to twice of it take turns, with Poisson arrivals. Goodput is
answers within the goal a second, timed from the intended send. Exits 1 unless goodput at twice the
limit is 90 % of the highest, and nothing is refused at the limit.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from figures import Figure, report
from hasten.load_generator.arrivals import Poisson
from hasten.load_generator.generator import Generator
from hasten.load_generator.protocol import Open
from hasten.load_generator.record import Record
from own_server import OwnServer, aim, demo_bundle

_GOAL_MS = 25.0
_RATES = (0.5, 0.8, 0.9, 1.0, 1.1, 1.5, 2.0)
_TURNS, _SECONDS = 3, 8
_SHARE = 0.9


def main() -> int:
    """Find the limit, and load below and above it."""
    settings = {"latency_goal_ms": _GOAL_MS}
    with (
        OwnServer(demo_bundle(), settings) as own,
        Generator() as generator,
    ):
        limit = _limit(own.url)
        print(f"limit {limit:.0f} requests/s with p99 within {_GOAL_MS:g} ms")
        number = aim(generator, own.url, "lite0")
        runs: dict[float, list[Record]] = {share: [] for share in _RATES}
        for turn in range(_TURNS):
            for share in _RATES:
                pattern = Open(Poisson(limit * share, turn), int(_SECONDS * 1e9))
                runs[share].append(generator.fire(number, pattern))
    for share, records in runs.items():
        rates = f"{limit * share:6.0f}/s asked, {_median(records, _goodput):6.0f}/s within the goal"
        print(f"{share:4.1f} x  {rates}, {_median(records, _refused):6.1%} refused")
    peak = max(_median(records, _goodput) for records in runs.values())
    kept = _median(runs[2.0], _goodput) / peak
    refused = sum(record.missed for record in runs[1.0])
    return report(
        [
            Figure(
                "goodput at 2.0 x the limit / the highest",
                f"{kept:.3f}",
                f">= {_SHARE:g}",
                kept >= _SHARE,
            ),
            Figure("refused at 1.0 x, of all runs", f"{refused}", "0", not refused),
        ]
    )


def _limit(url: str) -> float:
    program = str(Path(sys.executable).parent / "hasten")
    flags = ["--find-limit", "--p99-ms", f"{_GOAL_MS:g}", "--duration", "4s", "--json"]
    done = subprocess.run(
        [program, "load", url, "--model", "lite0", *flags], stdout=subprocess.PIPE, check=False
    )
    found = json.loads(done.stdout)["rate_per_s"]
    if found is None:
        raise RuntimeError("no rate holds the goal")
    return float(found)


def _goodput(record: Record) -> float:
    return record.latency.within(int(_GOAL_MS * 1e6)) / (record.window_ns / 1e9)


def _refused(record: Record) -> float:
    return record.missed / max(1, record.issued)


def _median(records: list[Record], figure: Callable[[Record], float]) -> float:
    return statistics.median(map(figure, records))


if __name__ == "__main__":
    sys.exit(main())
