"""Single requests, a static window and adaptive batching, side by side at several loads.

Run: python benchmarks/serving_modes.py. (a) a 64-256-256-10 perceptron, (b) the demo's network. One
client, wrk in a closed loop; the modes take turns, and medians are compared. So that only the
batching differs, all three run the perceptron on an executor of its own; what the server chooses
by itself is printed beside them. Exits 1 unless adaptive batching reaches 3.25 times the
throughput of single requests on the perceptron, has the lower p50 than the static window at every
load, and loses at most 3 % against the best fixed setting on the demo's network.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from figures import MODELS, Figure, report
from inference_requests import PROTOCOLS, Request
from own_server import OwnServer, demo_bundle, image_request
from serving_peers import one_row
from wrk import Load, run_wrk

_TURNS, _SECONDS = 3, 2
_GAIN, _LOSS = 3.25, 0.97
_WINDOW_US = 2000

Modes = dict[str, Mapping[str, Any]]
Found = dict[tuple[str, int], list[Load]]


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
    "single": {"max_batch_size": 1, **_THREAD},
    "window 32": _window(32, **_THREAD),
    "adaptive": _THREAD,
    "by itself": {},
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


def _measured(path: Path, request: Request, modes: Modes, loads: tuple[int, ...]) -> Found:
    found: Found = {}
    for _ in range(_TURNS):
        for name, settings in modes.items():
            with OwnServer(path, settings) as server:
                run_wrk(server.url, request, max(loads), 1)
                for connections in loads:
                    load = run_wrk(server.url, request, connections, _SECONDS)
                    if not load.clean:
                        raise RuntimeError(f"{name} failed: {load}")
                    found.setdefault((name, connections), []).append(load)
    return found


def _show(title: str, found: Found) -> None:
    print(f"{title}\n{'mode':<12}{'connections':>12}{'requests/s':>14}{'p50':>12}{'p99':>12}")
    for name, connections in sorted(found, key=lambda key: key[1]):
        p50 = _p50_ns(found, name, connections) / 1e6
        p99 = statistics.median(load.p99_ns for load in found[name, connections]) / 1e6
        rate = _rate(found, name, connections)
        print(f"{name:<12}{connections:>12}{rate:>14,.0f}{p50:>9.3f} ms{p99:>9.3f} ms")


def _rate(found: Found, name: str, connections: int) -> float:
    return statistics.median(load.requests_per_s for load in found[name, connections])


def _p50_ns(found: Found, name: str, connections: int) -> float:
    return statistics.median(load.p50_ns for load in found[name, connections])


def _small_figures(found: Found) -> list[Figure]:
    loads = sorted({connections for _, connections in found})
    best = {name: max(_rate(found, name, load) for load in loads) for name in _PERCEPTRON}
    gain = best["adaptive"] / best["single"]
    slower = [
        load
        for load in loads
        if _p50_ns(found, "adaptive", load) >= _p50_ns(found, "window 32", load)
    ]
    return [
        Figure(
            "perceptron: adaptive / single, most requests/s",
            f"{gain:.2f}x",
            f">= {_GAIN:g}x",
            gain >= _GAIN,
        ),
        Figure(
            "perceptron: loads at which the window's p50 is lower",
            ", ".join(map(str, slower)) or "none",
            "none",
            not slower,
        ),
    ]


def _large_figures(found: Found) -> list[Figure]:
    loads = sorted({connections for _, connections in found})
    fixed = [name for name in _DEMO if name != "adaptive"]
    shares = {
        load: _rate(found, "adaptive", load) / max(_rate(found, name, load) for name in fixed)
        for load in loads
    }
    worst = min(shares, key=lambda load: shares[load])
    return [
        Figure(
            f"demo: adaptive / best fixed setting, worst load ({worst})",
            f"{shares[worst]:.3f}",
            f">= {_LOSS:g}",
            shares[worst] >= _LOSS,
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
