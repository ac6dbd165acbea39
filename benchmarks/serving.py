"""The server against other servers of the same network, all with one client: wrk with one thread.

Run: python benchmarks/serving.py. The network is a 64-256-256-10 perceptron, where the server is
nearly all of the cost. The peers are installed in environments of their own in the cache folder,
once; one that cannot be is named. Ours and theirs are measured in turn. Exits 1 unless ours reaches
40,000 requests/s and 8 times Triton's in V2's binary form with 32 connections, 30,000 and 15 times
MLServer's in JSON, a p99 of 2 ms, and a p50 of 200 us with one connection.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from figures import MODELS, Figure, report
from inference_requests import PROTOCOLS, Request
from own_server import OwnServer
from serving_peers import PEERS, Peer, one_row
from wrk import Load, run_wrk

_PATH = "/v2/models/mlp/infer"
_WARM_S, _SECONDS, _TURNS = 2, 5, 3
_MANY = 32
#: Requests/s, and times a peer's, in the form that the peer speaks.
_TARGETS = {"V2 binary": (40_000, 8.0, "Triton"), "V2 JSON": (30_000, 15.0, "MLServer")}
_P99_NS, _P50_NS = 2_000_000, 200_000


def main() -> int:
    """Measure ours and theirs in turns, and hold the medians to the targets."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "mlp.onnx"
        onnx.save(MODELS["mlp"](), model)
        ours: dict[tuple[str, int], list[Load]] = {}
        theirs: dict[str, list[Load]] = {}
        missing: dict[str, str] = {}
        for _ in range(_TURNS):
            with OwnServer(model) as server:
                for name in _TARGETS:
                    for connections in (1, _MANY):
                        request = PROTOCOLS[name].request(one_row(), _PATH)
                        load = _measured(server.url, request, connections)
                        ours.setdefault((name, connections), []).append(load)
            for peer in PEERS:
                if peer.name not in missing:
                    _measure_peer(peer, model, theirs, missing)
    for (name, connections), loads in ours.items():
        print(f"{'hasten':<32}{name:<17}{connections:>4}  {_median(loads)}")
    for name, loads in theirs.items():
        protocol = next(peer.protocol.name for peer in PEERS if peer.name == name)
        print(f"{name:<32}{protocol:<17}{_MANY:>4}  {_median(loads)}")
    for name, reason in missing.items():
        print(f"{name:<32}not measured: {reason}")
    return report(_figures(ours, theirs))


def _measured(url: str, request: Request, connections: int) -> Load:
    run_wrk(url, request, connections, _WARM_S)
    return run_wrk(url, request, connections, _SECONDS)


def _measure_peer(
    peer: Peer, model: Path, theirs: dict[str, list[Load]], missing: dict[str, str]
) -> None:
    try:
        with peer.start(model) as running:
            load = _measured(running.url, peer.request(one_row()), _MANY)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        missing[peer.name] = str(error)
    else:
        theirs.setdefault(peer.name, []).append(load)


def _median(loads: list[Load]) -> Load:
    """Return the run whose rate is the median."""
    return sorted(loads, key=lambda load: load.requests_per_s)[len(loads) // 2]


def _figures(
    ours: dict[tuple[str, int], list[Load]], theirs: dict[str, list[Load]]
) -> list[Figure]:
    figures = []
    for name, (least, times, rival) in _TARGETS.items():
        many, one = _median(ours[name, _MANY]), _median(ours[name, 1])
        figures.append(
            Figure(
                f"{name}, {_MANY} connections, requests/s",
                f"{many.requests_per_s:,.0f}",
                f">= {least:,}",
                many.requests_per_s >= least and many.clean,
            )
        )
        found = next((loads for peer, loads in theirs.items() if peer.startswith(rival)), None)
        ratio = many.requests_per_s / _median(found).requests_per_s if found else 0.0
        shown = f"{ratio:.1f}x" if found else "no such peer here"
        target = f">= {times:g}x"
        figures.append(Figure(f"{name}, against {rival}", shown, target, ratio >= times))
        if name == "V2 binary":
            figures += [
                _within(f"{name}, {_MANY} connections, p99", many.p99_ns, _P99_NS),
                _within(f"{name}, 1 connection, p50", one.p50_ns, _P50_NS),
            ]
    return figures


def _within(what: str, time_ns: int, most_ns: int) -> Figure:
    return Figure(what, f"{time_ns / 1e6:.3f} ms", f"<= {most_ns / 1e6:g} ms", time_ns <= most_ns)


if __name__ == "__main__":
    sys.exit(main())
