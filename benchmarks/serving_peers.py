"""Other servers of the same model: each in an environment of its own, with its batcher on.

Run: python benchmarks/serving_peers.py [NAME ...]. Prints requests/s and latency of each at 1 and
32 connections. The environments are made once, in the cache folder.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.request import urlopen

import numpy as np
import onnx

from figures import MODELS
from fresh_install import make_environment
from hasten.cache_folder import cache_folder
from inference_requests import PROTOCOLS, Protocol, Request, Rows, ask
from wrk import Load, run_wrk

__all__ = ["PEERS", "Peer", "RunningPeer", "one_row"]

_PROGRAMS = Path(__file__).with_name("peers")
#: Debian's, because Triton's Python backend needs a shared libpython.
_DEBIAN_PYTHON = "/usr/bin/python3.11"
_MARK = "HASTEN_PEER"
_PORTS = range(20_000, 30_000)
_READY_S = 180.0
_STOP_S = 15.0
_POLL_S = 0.1
_CONNECTIONS = (1, 32)
_WARM_S, _MEASURED_S = 2, 6


class RunningPeer:
    """A server that answers at ``url``; leaving it ends every process that it started."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], mark: str) -> None:
        self.url = url
        self._process = process
        self._mark = mark

    def __enter__(self) -> RunningPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process group, and what left it: Ray's daemons do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline and (self._process.poll() is None or self._left()):
            time.sleep(_POLL_S)
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _left(self) -> list[int]:
        """Processes that inherited this peer's mark in their environment."""
        wanted = f"{_MARK}={self._mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):  # it has ended, or is not ours
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
        return found


@dataclass(frozen=True)
class Peer:
    """One server: how it is installed, started and asked."""

    name: str
    protocol: Protocol
    requirements: tuple[str, ...]
    program: str
    ready: str
    path: str
    #: How long its batcher waits for more: what served it best over 1 and 32 connections.
    #: BentoML's decides that for itself.
    gather_us: int = 0
    python: str = sys.executable

    def request(self, rows: Rows) -> Request:
        """Return what to post for these rows."""
        return self.protocol.request(rows, self.path)

    def install(self) -> Path:
        """Return the Python of its environment, made if need be; RuntimeError where it cannot."""
        package, version = self.requirements[0].split("==")
        name = f"{package.partition('[')[0]}-{version}"
        folder = cache_folder() / "serving-peers" / name
        done = folder / "installed"
        wanted = "\n".join(self.requirements)
        if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
            make_environment(folder, *self.requirements, python=self.python)
            done.write_text(wanted, encoding="utf-8")
        return folder / "bin" / "python"

    def start(self, model: Path) -> RunningPeer:
        """Serve this model and return when it is ready; RuntimeError with what it said if not."""
        python = self.install()
        port, mark = _free_port(), uuid.uuid4().hex
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [str(python), str(_PROGRAMS / self.program)],
                env=_environment(model, port, mark, self.gather_us),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            running = RunningPeer(f"http://127.0.0.1:{port}", process, mark)
            try:
                _wait(running.url + self.ready, process, said)
            except BaseException:
                running.stop()
                raise
        return running


def _environment(model: Path, port: int, mark: str, gather_us: int) -> dict[str, str]:
    inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    return inherited | {
        "PEER_MODEL": str(model),
        "PEER_PORT": str(port),
        "PEER_GATHER_US": str(gather_us),
        _MARK: mark,
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _free_port() -> int:
    """A port below those that the kernel hands out: a peer's own processes take some of those."""
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")


def _wait(url: str, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urlopen(url, timeout=5):  # noqa: S310
            return
        time.sleep(_POLL_S)
    said.seek(0)
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.read().decode(errors="replace"))
    lines = text.strip().splitlines()
    state = "ended" if process.poll() is not None else f"was not ready within {_READY_S:.0f} s"
    raise RuntimeError(f"the server {state}: {' | '.join(lines[-3:])}")


PEERS = (
    Peer(
        name="Triton (nvidia-pytriton 0.7.0)",
        protocol=PROTOCOLS["V2 binary"],
        requirements=("nvidia-pytriton==0.7.0", "onnxruntime"),
        program="serve_pytriton.py",
        ready="/v2/models/mlp/ready",
        path="/v2/models/mlp/infer",
        python=_DEBIAN_PYTHON,
    ),
    Peer(
        name="MLServer 1.7.1",
        protocol=PROTOCOLS["V2 JSON"],
        requirements=("mlserver==1.7.1", "onnxruntime"),
        program="serve_mlserver.py",
        ready="/v2/models/mlp/ready",
        path="/v2/models/mlp/infer",
        gather_us=500,
    ),
    Peer(
        name="LitServe 0.2.19",
        protocol=PROTOCOLS["JSON of a row"],
        requirements=("litserve==0.2.19", "onnxruntime"),
        program="serve_litserve.py",
        ready="/health",
        path="/predict",
        gather_us=100,
    ),
    Peer(
        name="BentoML 1.4.39",
        protocol=PROTOCOLS["JSON of a batch"],
        requirements=("bentoml==1.4.39", "onnxruntime"),
        program="serve_bentoml.py",
        ready="/readyz",
        path="/predict",
    ),
    Peer(
        name="Ray Serve 2.60",
        protocol=PROTOCOLS["JSON of a row"],
        requirements=("ray[serve]==2.60.0", "onnxruntime"),
        program="serve_ray.py",
        ready="/-/healthz",
        path="/",
        gather_us=1000,
    ),
)


def one_row() -> Rows:
    """Return the row that everybody is asked about, float32 [1, 64], in numbers of 4 decimals."""
    values = np.random.default_rng(0).normal(size=(1, 64))
    return np.round(values, 4).astype(np.float32)


def main(names: list[str]) -> int:
    """Measure the peers, or those whose names begin so; exits 1 where one gives wrong answers."""
    chosen = [peer for peer in PEERS if not names or peer.name.startswith(tuple(names))]
    status = 0
    print(f"{'server':<32}{'protocol':<17}{'connections':>12}  result")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "mlp.onnx"
        onnx.save(MODELS["mlp"](), model)
        for peer in chosen:
            try:
                for connections, result in _measured(peer, model):
                    line = f"{peer.name:<32}{peer.protocol.name:<17}{connections:>12}"
                    print(f"{line}  {result}", flush=True)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                status = 1
                print(f"{peer.name:<32}{peer.protocol.name:<17}not measured: {error}", flush=True)
    return status


def _measured(peer: Peer, model: Path) -> Iterator[tuple[int, Load]]:
    rows = one_row()
    with peer.start(model) as running:
        request = peer.request(rows)
        answer = peer.protocol.rows(*ask(running.url, request))
        if not np.allclose(answer, _expected(model, rows), atol=1e-4):
            raise RuntimeError(f"it answers with other numbers: {answer}")
        for connections in _CONNECTIONS:
            run_wrk(running.url, request, connections, _WARM_S)
            yield connections, run_wrk(running.url, request, connections, _MEASURED_S)


def _expected(model: Path, rows: Rows) -> Rows:
    from onnx.reference import ReferenceEvaluator

    (expected,) = ReferenceEvaluator(str(model)).run(None, {"x": rows})
    return np.asarray(expected, np.float32)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
