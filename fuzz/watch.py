"""Watches a reader: inputs a second, hangs, and the end of its process."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz.readers import READERS

__all__ = ["FINDINGS", "keep", "watch"]

FINDINGS = Path(__file__).parent / "findings"
#: An input that takes longer is a finding; the first ones also import libraries.
_PATIENCE_S, _START_S = 10.0, 120.0


def watch(target: str, time_s: float, seed: int) -> int:
    """Fuzz a reader for so many seconds; return how many findings there were."""
    end = time.monotonic() + time_s
    inputs = findings = 0
    while time.monotonic() < end:
        done, found = _run(target, seed + findings, end)
        inputs += done
        findings += found
    sys.stdout.write(f"{target:8} {inputs:9,d} inputs in {time_s:.0f} s, {findings} findings\n")
    return findings


def _run(target: str, seed: int, end: float) -> tuple[int, bool]:
    """Run a reader until the time is over or it finds something."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.reading", target, str(seed), folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            inputs, wrong = _follow(process, end)
        finally:
            process.kill()
            process.wait()
        if wrong:
            keep(target, (Path(folder) / READERS[target].name).read_bytes(), wrong)
        return inputs, bool(wrong)


def _follow(process: subprocess.Popen[bytes], end: float) -> tuple[int, str]:
    """Count the inputs that were read; say what was wrong with the last, if it was."""
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("its output is not read")
    inputs, patience, begun = 0, _START_S, False
    while True:
        left = end - time.monotonic()
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, min(patience, left)))
        if ready:
            data = os.read(process.stdout.fileno(), 65_536)
            if not data:
                said = process.stderr.read().decode(errors="replace")
                if not begun:
                    raise RuntimeError(f"a seed is not read: {said}")
                return inputs, said or f"the process ended: {process.wait()}"
            inputs += len(data) - (not begun)
            begun = True
            patience = _PATIENCE_S
        elif left <= patience:
            return inputs, ""
        else:
            return inputs, f"no answer within {patience:.0f} s"


def keep(target: str, data: bytes, wrong: str) -> None:
    """Keep an input beside what was wrong with it, and say so."""
    folder = FINDINGS / target
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(data).hexdigest()[:12]
    (folder / name).write_bytes(data)
    (folder / f"{name}.txt").write_text(wrong, encoding="utf-8")
    last = wrong.strip().splitlines()[-1] if wrong.strip() else wrong
    sys.stdout.write(f"{target}: finding {folder / name}: {last[:200]}\n")
    sys.stdout.flush()
