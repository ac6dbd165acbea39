"""The parent's side: an architecture in a process of its own, with a time limit for each part.

A part that crashes or hangs becomes a row that says so, and the parts behind it get a new process.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from zoo.environment import interpreter, variables
from zoo.row import DONE, Kind, Row, read_rows

__all__ = ["visit"]

_POLL_S = 0.05
_TAIL_BYTES = 4096


def visit(
    name: str, parts: Sequence[str], limit_s: float, program: Sequence[str] = ()
) -> list[Row]:
    """Measure the parts of an architecture, each row of theirs within ``limit_s`` seconds.

    ``program`` is what is called with the name, the file for the rows, and the parts; by default
    ``zoo.child`` in the environment of the architectures.
    """
    program = program or (str(interpreter()), "-m", "zoo.child")
    rows, left = list[Row](), list(parts)
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        while left:
            out = Path(folder) / f"rows-{len(left)}"
            ended = _run([*program, name, str(out), *left], out, limit_s)
            found = read_rows(out)
            rows += [row for row in found if row.what != DONE]
            left = left[sum(row.what == DONE for row in found) :]
            if left:
                kind, reason = ended or ("crashed", "it ended before it was done")
                part = left.pop(0)
                rows.append(Row(name, part, part, kind, reason=reason))
    return rows


def _run(command: Sequence[str], out: Path, limit_s: float) -> tuple[Kind, str] | None:
    """Run a child to its end; returns how it ended where that was not by itself."""
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            command, env=variables(), stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            if not _waited(child, out, limit_s):
                return "hung", f"no answer within {limit_s:.0f} s"
        finally:
            child.kill()
            child.wait()
        return _ending(child.returncode, said)


def _waited(child: subprocess.Popen[bytes], out: Path, limit_s: float) -> bool:
    """Wait as long as a row is written every ``limit_s`` seconds; returns whether it ended."""
    written, until = 0, time.monotonic() + limit_s
    while child.poll() is None:
        size = out.stat().st_size if out.is_file() else 0
        if size > written:
            written, until = size, time.monotonic() + limit_s
        elif time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True


def _ending(code: int, said: IO[bytes]) -> tuple[Kind, str] | None:
    if code == 0:
        return None
    said.seek(0, 2)
    said.seek(max(0, said.tell() - _TAIL_BYTES))
    lines = said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    if code < 0:
        return "crashed", f"{signal.Signals(-code).name}: {lines[-1]}"
    return "traceback", lines[-1]
