"""The demo's bundle over HTTP against its bare session: throughput, memory, and time to ready.

Run: python benchmarks/serving_demo.py. The session alone, and the server with 8 connections of wrk
that send uint8 pixels, take turns on the same cores. Exits 1 unless the server reaches 85 % of the
session's throughput, is ready within 1.5 s and takes at most 80 MB more memory than the runtime
with the model.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from figures import Figure, report
from hasten.bundle import Bundle
from hasten.worker.memory import resident_memory_bytes
from own_server import OwnServer, demo_bundle, image_request
from wrk import run_wrk

_TURNS, _SECONDS, _CONNECTIONS = 5, 6, 8
_SHARE, _READY_S, _MEMORY_BYTES = 0.85, 1.5, 80e6


def main() -> int:
    """Take turns, and compare medians."""
    bundle = demo_bundle()
    request = image_request(bundle)
    bare, served, ready, grown = [], [], [], []
    for _ in range(_TURNS):
        rate, alone_bytes = _bare(bundle)
        with OwnServer(bundle) as server:
            run_wrk(server.url, request, _CONNECTIONS, 1)
            load = run_wrk(server.url, request, _CONNECTIONS, _SECONDS)
            grown.append(server.resident_bytes - alone_bytes)
        if not load.clean:
            raise RuntimeError(f"the server failed: {load}")
        bare.append(rate)
        served.append(load.requests_per_s)
        ready.append(server.ready_s)
        print(f"session {rate:.0f}/s, server {load}")
    share = statistics.median(one / other for one, other in zip(served, bare, strict=True))
    start, memory = statistics.median(ready), statistics.median(grown)
    return report(
        [
            Figure(
                f"served / session alone, {_CONNECTIONS} connections",
                f"{share:.3f}",
                f">= {_SHARE:g}",
                share >= _SHARE,
            ),
            Figure("start to ready", f"{start:.2f} s", f"<= {_READY_S:g} s", start <= _READY_S),
            Figure(
                "resident memory beyond the bare runtime's",
                f"{memory / 1e6:.0f} MB",
                f"<= {_MEMORY_BYTES / 1e6:.0f} MB",
                memory <= _MEMORY_BYTES,
            ),
        ]
    )


def _bare(bundle: Path) -> tuple[float, int]:
    """Return runs a second of the session in a process of its own, and its resident memory."""
    done = subprocess.run(
        [sys.executable, __file__, "--bare", str(bundle)], check=True, stdout=subprocess.PIPE
    )
    rate, resident = json.loads(done.stdout)
    return rate, resident


def _run_bare(path: Path) -> None:
    with Bundle.open(path) as bundle:
        spec = bundle.manifest.signature.inputs[0]
        shape = [1, *(dim or 1 for dim in spec.shape[1:])]
        feed = {spec.name: np.random.default_rng(0).integers(0, 256, shape, np.uint8)}
        for _ in range(20):
            bundle.run(feed)
        begin, runs = time.perf_counter(), 0
        while time.perf_counter() - begin < _SECONDS:
            bundle.run(feed)
            runs += 1
        rate = runs / (time.perf_counter() - begin)
        print(json.dumps([rate, resident_memory_bytes()]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        _run_bare(Path(sys.argv[2]))
    else:
        sys.exit(main())
