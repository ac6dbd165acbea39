"""Single requests, a static window and adaptive batching, side by side at several loads.

Run: python benchmarks/serving_modes.py. (a) a 64-256-256-10 perceptron, (b) the demo's network. One
client, wrk in a closed loop. A server runs for each mode, and all of them take turns at a load, so
that a ratio is one of runs a second apart; each block of rounds has servers of its own. Modes are
as the server runs them by itself, which for the perceptron is on the loop's own thread; the same
with an executor's thread are printed beside them. Exits 1 unless adaptive batching reaches 3.25
times the throughput of single requests on the perceptron, has the lower p50 than the static window
at every load, and loses at most 3 % against the best fixed setting on the demo's network.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from figures import MODELS, Figure, report
from hasten.measure.statistics import Interval, speedup
from inference_requests import PROTOCOLS, Request
from own_server import OwnServer, demo_bundle, image_request
from serving_peers import one_row
from wrk import Load, run_wrk

_BLOCKS, _ROUNDS, _SECONDS = 3, 2, 1
_GAIN, _LOSS = 3.25, 0.97
_WINDOW_US = 2000

Modes = dict[str, Mapping[str, Any]]


class Measured(NamedTuple):
    """Loads by mode and connections, as blocks of rounds."""

    loads: dict[tuple[str, int], list[list[Load]]]

    @property
    def connections(self) -> list[int]:
        """Every number of connections, rising."""
        return sorted({connections for _, connections in self.loads})

    def rate(self, mode: str, connections: int) -> float:
        """Median requests a second."""
        return statistics.median(one.requests_per_s for one in self._flat(mode, connections))

    def p50_ns(self, mode: str, connections: int) -> float:
        """Median of the medians."""
        return statistics.median(one.p50_ns for one in self._flat(mode, connections))

    def p99_ns(self, mode: str, connections: int) -> float:
        """Median of the 99th percentiles."""
        return statistics.median(one.p99_ns for one in self._flat(mode, connections))

    def faster(self, mode: str, other: str, connections: int) -> Interval:
        """How many times more requests a second than another mode, from pairs."""
        times = {
            name: [
                [1 / one.requests_per_s for one in block] for block in self.loads[name, connections]
            ]
            for name in (mode, other)
        }
        return speedup(times[other], times[mode])

    def sooner(self, mode: str, other: str, connections: int) -> Interval:
        """How many times lower the p50 is than another mode's, from pairs."""
        times = {
            name: [[float(one.p50_ns) for one in block] for block in self.loads[name, connections]]
            for name in (mode, other)
        }
        return speedup(times[other], times[mode])

    def _flat(self, mode: str, connections: int) -> list[Load]:
        return [one for block in self.loads[mode, connections] for one in block]


def _window(size: int, **settings: Any) -> dict[str, Any]:
    """Wait up to two milliseconds for a full batch, whatever the load."""
    batching = {
        "preferred_batch_size": [size],
        "max_queue_delay_microseconds": _WINDOW_US,
        "max_batch_size": size,
    }
    return {"dynamic_batching": batching, **settings}


_THREAD = {"inline": False}
_PERCEPTRON: Modes = {
    "single": {"max_batch_size": 1},
    "window 32": _window(32),
    "adaptive": {},
    "single, thread": {"max_batch_size": 1, **_THREAD},
    "window 32, thread": _window(32, **_THREAD),
    "adaptive, thread": _THREAD,
}
_DEMO: Modes = {
    "single": {"max_batch_size": 1},
    "window 2": _window(2),
    "window 4": _window(4),
    "window 8": _window(8),
    "adaptive": {},
}


def main() -> int:
    """Measure both networks."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "mlp.onnx"
        onnx.save(MODELS["mlp"](), model)
        request = PROTOCOLS["V2 binary"].request(one_row(), "/v2/models/mlp/infer")
        small = _measured(model, request, _PERCEPTRON, (1, 4, 16, 32, 64))
    bundle = demo_bundle()
    large = _measured(bundle, image_request(bundle), _DEMO, (1, 4, 8, 16))
    _show("64-256-256-10 perceptron", small)
    _show("the demo's network", large)
    return report([*_small_figures(small), *_large_figures(large)])


def _measured(path: Path, request: Request, modes: Modes, loads: tuple[int, ...]) -> Measured:
    order = random.Random(0)  # noqa: S311 - an order of turns, not a secret
    found: dict[tuple[str, int], list[list[Load]]] = {
        (name, connections): [] for connections in loads for name in modes
    }
    for _ in range(_BLOCKS):
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(OwnServer(path, settings))
                for name, settings in modes.items()
            }
            for server in servers.values():
                run_wrk(server.url, request, max(loads), 1)
            for blocks in found.values():
                blocks.append([])
            for connections in loads:
                for _ in range(_ROUNDS):
                    for name in order.sample(list(servers), len(servers)):
                        load = run_wrk(servers[name].url, request, connections, _SECONDS)
                        if not load.clean:
                            raise RuntimeError(f"{name} failed: {load}")
                        found[name, connections][-1].append(load)
    return Measured(found)


def _show(title: str, found: Measured) -> None:
    print(f"{title}\n{'mode':<18}{'connections':>12}{'requests/s':>14}{'p50':>12}{'p99':>12}")
    for name, connections in found.loads:
        p50, p99 = found.p50_ns(name, connections) / 1e6, found.p99_ns(name, connections) / 1e6
        rate = found.rate(name, connections)
        print(f"{name:<18}{connections:>12}{rate:>14,.0f}{p50:>9.3f} ms{p99:>9.3f} ms")


def _small_figures(found: Measured) -> list[Figure]:
    figures = []
    for where, target in (("", True), (", thread", False)):
        single, window, adaptive = f"single{where}", f"window 32{where}", f"adaptive{where}"
        gain = max(found.faster(adaptive, single, load).median for load in found.connections)
        figures.append(
            Figure(
                f"perceptron{where}: adaptive / single, requests/s at the best load",
                f"{gain:.2f}x",
                f">= {_GAIN:g}x" if target else "none",
                gain >= _GAIN or not target,
            )
        )
        for load in found.connections:
            sooner = found.sooner(adaptive, window, load)
            figures.append(
                Figure(
                    f"perceptron{where}: window's p50 / adaptive's, {load} connections",
                    f"{sooner}",
                    "> 1" if target else "none",
                    sooner.median > 1 or not target,
                )
            )
    return figures


def _large_figures(found: Measured) -> list[Figure]:
    """Return, for each load, how adaptive batching does against the fixed setting best there."""
    figures = []
    for load in found.connections:
        fixed = [name for name in _DEMO if name != "adaptive"]
        best = max(fixed, key=lambda name: found.rate(name, load))
        share = found.faster("adaptive", best, load)
        figures.append(
            Figure(
                f"demo: adaptive / {best}, the best fixed at {load} connections",
                f"{share}",
                f">= {_LOSS:g}",
                share.median >= _LOSS,
            )
        )
    return figures


if __name__ == "__main__":
    sys.exit(main())
