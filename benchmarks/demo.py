"""The demo held to its targets: speed, accuracy, size, time and memory, from one run.

Run: python benchmarks/demo.py. Runs ``hasten demo --json`` as a user would, and adds up the memory
of all its processes while it does (proportional set size, so that shared pages count once).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec

from figures import Figure, report
from hasten.bundle import Manifest
from hasten.demo.build import build_demo
from hasten.progress import Quiet

_SPEEDUP = 5.0
_DROP = 0.005
_SIZE_SHARE = 0.30
_TIME_S = 180.0
_MEMORY_BYTES = 3e9
_EVERY_S = 0.5


def main() -> int:
    """Run the demo and hold its bundle.json to the targets."""
    build_demo(Quiet())
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(sys.executable).parent / "hasten")
        command = [program, "demo", "--json", "--out", f"{folder}/lite0.hasten"]
        begin = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
            watch = Watch(running.pid)
            assert running.stdout is not None
            document = running.stdout.read()
            running.wait()
        took_s = time.monotonic() - begin
        peak = watch.stop()
    manifest = msgspec.json.decode(document, type=Manifest)
    return report(figures_of(manifest, took_s, peak))


def figures_of(manifest: Manifest, took_s: float, peak: float) -> list[Figure]:
    """Return each target with what was reached."""
    evidence = manifest.evidence
    speedup, drop = evidence.speedup, evidence.drop
    assert drop is not None
    share = evidence.chosen.size_bytes / evidence.reference.size_bytes
    print(evidence.verdict)
    for note in evidence.notes:
        print(f"note: {note}")
    for entry in evidence.ledger:
        print(f"ledger: {entry.step}: {entry.speedup} {entry.note}")
    return [
        Figure(
            "speedup over PyTorch eager, batch 1",
            str(speedup),
            f">= {_SPEEDUP:g}x, all of it",
            speedup.low >= _SPEEDUP,
        ),
        Figure("top-1 lost on the held-out quarter", f"{drop:+.4f}", f"<= {_DROP}", drop <= _DROP),
        Figure(
            "int8 artifact / fp32 bytes", f"{share:.3f}", f"<= {_SIZE_SHARE}", share <= _SIZE_SHARE
        ),
        Figure("optimising, seconds", f"{took_s:.0f}", f"<= {_TIME_S:.0f}", took_s <= _TIME_S),
        Figure(
            "peak memory of all processes, GB",
            f"{peak / 1e9:.2f}",
            f"<= {_MEMORY_BYTES / 1e9:g}",
            peak <= _MEMORY_BYTES,
        ),
    ]


class Watch:
    """Samples the memory of a process and all below it, in a thread."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> float:
        """Return the most bytes that were seen at once."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _run(self) -> None:
        while not self._done.wait(_EVERY_S):
            self._peak = max(self._peak, sum(pss_bytes(pid) for pid in family(self._pid)))


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for parent in found:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
        except OSError:
            continue
        found.extend(int(child) for child in children.split())
    return found


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    sys.exit(main())
