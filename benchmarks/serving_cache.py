"""Answers from the cache against computed ones, on the demo's network.

Run: python benchmarks/serving_cache.py. One connection of wrk asks the same again and again. A
cache that has room for nothing keeps no answer, so every request misses, at the full cost of
looking it up. Exits 1 unless hits reach 10 times the throughput.
"""

from __future__ import annotations

import statistics
import sys

from figures import Figure, report
from own_server import OwnServer, demo_bundle, image_request
from wrk import run_wrk

_TURNS, _SECONDS, _CONNECTIONS = 3, 4, 1
_GAIN = 10.0
_SETTINGS = {"response_cache": True}


def main() -> int:
    """Take turns, and compare medians."""
    bundle = demo_bundle()
    request = image_request(bundle)
    rates: dict[str, list[float]] = {"hits": [], "misses": []}
    for _ in range(_TURNS):
        for name, megabytes in (("hits", "64"), ("misses", "0.0001")):
            with OwnServer(bundle, _SETTINGS, "--cache-mb", megabytes) as server:
                run_wrk(server.url, request, _CONNECTIONS, 1)
                load = run_wrk(server.url, request, _CONNECTIONS, _SECONDS)
            print(f"{name}: {load}")
            rates[name].append(load.requests_per_s)
    gain = statistics.median(rates["hits"]) / statistics.median(rates["misses"])
    return report(
        [Figure("hits / misses, requests/s", f"{gain:.1f}x", f">= {_GAIN:g}x", gain >= _GAIN)]
    )


if __name__ == "__main__":
    sys.exit(main())
