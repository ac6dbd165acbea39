"""Does the load generator measure the server, or itself? Against a server that computes nothing.

Run: python benchmarks/load.py. In closed loop its throughput is set against that of wrk, in turns
(Debian's package `wrk`). In open loop at 5,000 requests/s its own share of the latency is shown:
how late it sends, and the whole time from the intended send to the answer, server included.
Exits 1 unless wrk is there, throughputs agree within 5 % and the 99th percentile stays in 100 us.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import Figure, report
from hasten.load.arrivals import Poisson
from hasten.load.generator import Generator
from hasten.load.payload import build_payload
from hasten.load.protocol import Closed, Open
from hasten.load.server import Server

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from null_server import null_server

_SECOND_NS = 1_000_000_000
_CONNECTIONS = 32
_PAIRS = 8
_CLOSED_S = 2
_ALLOWED = 0.05
_RATE_PER_S = 5000.0
_RUNS = 9
_OPEN_S = 3
_MOST_US = 100.0


def main() -> int:
    """Measure both, and hold them to their targets."""
    with (
        tempfile.TemporaryDirectory() as folder,
        null_server(canned=True) as url,
        Generator() as generator,
    ):
        server = Server.at(url)
        requests = build_payload(
            server,
            server.model("null"),
            data=None,
            tensors="binary",
            samples_per_query=1,
            seed=0,
            scratch=Path(folder),
        ).requests
        number = generator.aim(server.address, requests, timeout_s=10, most_connections=256)
        generator.fire(number, Closed(_CONNECTIONS, _SECOND_NS))
        figures = [*_closed(generator, number, requests[0], url, Path(folder))]
        figures += _open(generator, number)
    return report(figures)


def _closed(
    generator: Generator, number: int, request: bytes, url: str, folder: Path
) -> list[Figure]:
    """Closed loop, in turns with wrk: ours, wrk, wrk, ours."""
    target = f"within {_ALLOWED:.0%} of 1"
    program = shutil.which("wrk")
    if program is None:
        print("wrk is not installed: apt-get install wrk")
        return [Figure("closed loop, throughput / wrk's", "not measured", target, met=False)]
    script = folder / "post.lua"
    script.write_text(_script(request))
    figures = []
    for connections, held in ((_CONNECTIONS, True), (1, False)):
        ours, theirs = [], []
        for pair in range(_PAIRS):
            for own in (True, False) if pair % 2 == 0 else (False, True):
                if own:
                    pattern = Closed(connections, _CLOSED_S * _SECOND_NS)
                    ours.append(generator.fire(number, pattern).rate_per_s)
                else:
                    theirs.append(_wrk(program, url, connections, script))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        rates = f"({statistics.median(ours):,.0f}/s / {statistics.median(theirs):,.0f}/s)"
        figures.append(
            Figure(
                f"closed loop, {connections} connections: throughput / wrk's {rates}",
                f"{ratio:.3f}",
                target if held else "none, for comparison",
                not held or abs(ratio - 1) <= _ALLOWED,
            )
        )
    return figures


def _script(request: bytes) -> str:
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    path = head.split()[1].decode()
    skipped = {"Host", "Content-Length"}
    lines = [f'wrk.headers["{k}"] = "{v}"' for k, v in headers.items() if k not in skipped]
    escaped = "".join(f"\\{byte:03d}" for byte in body)
    return "\n".join(
        ['wrk.method = "POST"', f'wrk.path = "{path}"', f'wrk.body = "{escaped}"', *lines]
    )


def _wrk(program: str, url: str, connections: int, script: Path) -> float:
    done = subprocess.run(
        [program, "-t1", f"-c{connections}", f"-d{_CLOSED_S}s", "-s", str(script), url],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def _open(generator: Generator, number: int) -> list[Figure]:
    """Open loop: the median over runs of each percentile."""
    runs = [
        generator.fire(number, Open(Poisson(_RATE_PER_S, seed), _OPEN_S * _SECOND_NS))
        for seed in range(_RUNS)
    ]
    assert all(run.answered == run.issued for run in runs)
    figures = []
    for what, times in (
        ("sent after its time", [run.lag for run in runs]),
        ("whole latency, server included", [run.latency for run in runs]),
    ):
        for percent, most_us in ((50, None), (99, _MOST_US)):
            at_us = statistics.median((one.percentile(percent) or 0) / 1e3 for one in times)
            figures.append(
                Figure(
                    f"open loop, {_RATE_PER_S:,.0f}/s, Poisson: {what}, p{percent}",
                    f"{at_us:.1f} us",
                    "none" if most_us is None else f"at most {most_us:.0f} us",
                    most_us is None or at_us <= most_us,
                )
            )
    return figures


if __name__ == "__main__":
    sys.exit(main())
