"""``hasten serve`` as a process of its own, and the demo's bundle to serve."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hasten.bundle import Bundle
from hasten.cache_folder import cache_folder
from hasten.load_generator.generator import Generator
from hasten.load_generator.payload import build_payload
from hasten.load_generator.server import Server
from inference_requests import Request

__all__ = ["OwnServer", "aim", "demo_bundle", "image_request"]

_PROGRAM = str(Path(sys.executable).parent / "hasten")


class OwnServer:
    """Serves while it is entered. ``ready_s`` is the time from start to the ready line."""

    def __init__(self, path: Path, settings: Mapping[str, Any] | None = None, *flags: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        command = [_PROGRAM, "serve", str(path), "--http-port", "0", *flags]
        if settings is not None:
            file = Path(self._folder.name) / "settings.json"
            file.write_text(json.dumps(settings), encoding="utf-8")
            command += ["--config", str(file)]
        self._command = command

    def __enter__(self) -> OwnServer:
        begin = time.monotonic()
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.ready_s = time.monotonic() - begin
        if not line.startswith("ready at "):
            raise RuntimeError(f"hasten serve ended with {self._process.wait()}")
        self.url = line.split()[2]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=30)
        self._folder.cleanup()

    @property
    def resident_bytes(self) -> int:
        """What of the server is in memory now (VmRSS)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


def demo_bundle() -> Path:
    """Return the demo's bundle, made by ``hasten demo`` if it is not there yet."""
    path = cache_folder() / "serving" / "lite0.hasten"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [_PROGRAM, "demo", "--out", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def image_request(bundle: Path) -> Request:
    """Return a request of one image of random uint8 pixels, binary both ways."""
    spec = Bundle.open(bundle).manifest.signature.inputs[0]
    shape = [1, *(dim or 1 for dim in spec.shape[1:])]
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tensor = {
        "name": spec.name,
        "shape": shape,
        "datatype": "UINT8",
        "parameters": {"binary_data_size": pixels.nbytes},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return Request("/v2/models/lite0/infer", headers, text + pixels.tobytes())


def aim(generator: Generator, url: str, model: str) -> int:
    """Point a generator at a model, with one sample a request; returns the server's number."""
    server = Server.at(url)
    with tempfile.TemporaryDirectory() as folder:
        requests = build_payload(
            server,
            server.model(model),
            data=None,
            tensors="binary",
            samples_per_query=1,
            seed=0,
            scratch=Path(folder),
        ).requests
        return generator.aim(server.address, requests, timeout_s=10, most_connections=512)
