"""wrk as the client that all servers are measured with: C, one thread, no coordination with any."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from inference_requests import Request

__all__ = ["Load", "run_wrk"]

_SCRIPT = Path(__file__).with_name("wrk_post.lua")


class Load(NamedTuple):
    """What one run came to. ``refused`` answers had a status above 399; ``broken`` had none."""

    requests_per_s: float
    p50_ns: int
    p99_ns: int
    requests: int
    refused: int
    broken: int

    @property
    def clean(self) -> bool:
        """Whether every request was answered with success."""
        return not (self.refused or self.broken)

    def __str__(self) -> str:
        """Requests a second and percentiles, and how many failed where some did."""
        failed = "" if self.clean else f", {self.refused} refused, {self.broken} broken"
        return (
            f"{self.requests_per_s:,.0f}/s, p50 {self.p50_ns / 1e6:.2f} ms, "
            f"p99 {self.p99_ns / 1e6:.2f} ms{failed}"
        )


def run_wrk(url: str, request: Request, connections: int, seconds: int) -> Load:
    """Post this request from so many connections in a closed loop; RuntimeError without wrk."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("there is no wrk here (run: apt-get install wrk)")
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(request.body)
        done = subprocess.run(
            [
                *(program, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_SCRIPT)),
                *(url + request.path, "--", str(body)),
                *(f"{name}: {value}" for name, value in request.headers.items()),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode or not last.startswith("{"):
        raise RuntimeError(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    said = json.loads(last)
    return Load(
        requests_per_s=said["requests"] / said["duration"] * 1e6,
        p50_ns=said["p50"] * 1000,
        p99_ns=said["p99"] * 1000,
        requests=said["requests"],
        refused=said["status"],
        broken=said["socket"],
    )
