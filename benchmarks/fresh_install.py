"""A fresh environment with the core dependencies alone, and what a command in it needs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["Cost", "cost_of", "install", "make_environment"]

_ROOT = Path(__file__).parent.parent
_POLL_S = 0.01


class Cost(NamedTuple):
    """Wall time, and the peak of resident memory over the process and all it started."""

    seconds: float
    peak_bytes: int


def make_environment(folder: Path, *requirements: str, python: str = sys.executable) -> Path:
    """Make a virtual environment with these packages; returns the folder of its programs.

    RuntimeError with what was said when it cannot be made.
    """
    made = subprocess.run(
        [python, "-m", "venv", "--clear", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise RuntimeError(f"{python} -m venv: {' '.join((made.stdout + made.stderr).split())}")
    programs = folder / "bin"
    command = [str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise RuntimeError(f"pip install {' '.join(requirements)}: {' '.join(lines)}")
    return programs


def install(folder: Path) -> Path:
    """What ``pip install hasten`` gives, from this checkout."""
    return make_environment(folder, str(_ROOT))


def cost_of(command: list[str], folder: Path) -> Cost:
    """Run a command to its end; RuntimeError with what it said when it fails."""
    begin = time.monotonic()
    peak = 0
    with (folder / "said").open("wb+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        while process.poll() is None:
            peak = max(peak, _tree_bytes(process.pid))
            time.sleep(_POLL_S)
        seconds = time.monotonic() - begin
        said.seek(0)
        if process.returncode:
            raise RuntimeError(said.read().decode(errors="replace"))
    return Cost(seconds, peak)


def _tree_bytes(pid: int) -> int:
    """The peaks of a process and its children, added up."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has ended
        return 0
    own = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
    return int(own) * 1024 + sum(_tree_bytes(int(child)) for child in children)
