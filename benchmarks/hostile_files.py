"""Files that mean harm, given to every verb that reads such a file: what they cost and leave.

Each is run as a process. A failure is a traceback, a death by a signal, a message of several lines,
more than ten seconds of the processor, more memory in one process than a gigabyte beyond the file,
or a file outside ``--out``. Run with a number for that many mutated files beside those made by hand
(2,000 for the claim), and with a second one for another seed.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from onnx_models import linear
from strange_files import handmade, mutated

__all__ = ["Outcome", "commands", "ground", "trial"]

_PROGRAM = [sys.executable, "-c", "from hasten.cli.main import main; main()"]
_PROCESSOR_S, _CLOCK_S = 10.0, 90.0
_MEMORY_BYTES = 10**9
_SOME = 60


@dataclass(frozen=True)
class Outcome:
    """What one command did with one file; ``faults`` is empty where that was right."""

    words: tuple[str, ...]
    status: int
    said: str
    processor_s: float
    memory_bytes: int
    faults: tuple[str, ...]


def ground(folder: Path) -> None:
    """Write an honest model and honest samples, for files that are neither."""
    onnx.save(linear(), folder / "good.onnx")
    np.savez(folder / "good.npz", x=np.ones((32, 4), np.float32), labels=np.arange(32) % 3)
    (folder / "out").mkdir()
    (folder / "tmp").mkdir()


def commands(path: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the commands that read a file of this kind."""
    file, out, good = str(path), str(folder / "out" / "made"), str(folder / "good.onnx")
    race = ("--runtime", "onnxruntime", "--time", "3s", "--force", "--out", out)
    if path.suffix == ".npz":
        yield ("bench", good, "--rounds", "1", "--data", file)
        yield ("optimize", good, "--data", file, *race)
    elif path.suffix == ".toml":
        yield ("optimize", good, "--data", str(folder / "good.npz"), "--recipe", file, *race)
    else:
        yield ("bench", file, "--rounds", "1")
        yield ("serve", file, "--http-port", "0")
        if (path / "bundle.json").exists():
            yield ("bundle", "verify", file)
        else:
            yield ("optimize", file, *race)
            yield ("convert", file, "--to", "onnx", "--out", f"{out}.onnx", "--force")


def trial(words: tuple[str, ...], folder: Path, file: Path) -> Outcome:
    """Run a command in a folder of its own, and look at what it left."""
    before = _listed(folder)
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            [*_PROGRAM, *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said if words[0] == "serve" else subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "HASTEN_CACHE": str(folder / "out")},
        )
        status, usage = _waited(process, said.fileno(), words[0] == "serve")
        said.seek(0)
        text = said.read()
    seconds = usage.ru_utime + usage.ru_stime
    memory = usage.ru_maxrss * 1024
    size = file.stat().st_size if file.is_file() else 0
    lines = [line for line in text.splitlines() if line]
    faults = {
        "a traceback": "Traceback (most recent call last)" in text,
        "a fault of the program itself": "a fault of the program" in text,
        f"ended by signal {-status}": status < 0,
        f"{len(lines)} lines": status == 2 and len(lines) != 1,
        f"{seconds:.1f} s of the processor": seconds > _PROCESSOR_S,
        "no end": time.monotonic() - begin > _CLOCK_S,
        f"{memory / 1e9:.2f} GB": memory > _MEMORY_BYTES + min(size, 2**31),
        f"left {sorted(_listed(folder) - before)[:3]}": _listed(folder) != before,
    }
    found = tuple(fault for fault, there in faults.items() if there)
    return Outcome(words, status, text.strip(), seconds, memory, found)


def _waited(
    process: subprocess.Popen[bytes], said: int, serves: bool
) -> tuple[int, resource.struct_rusage]:
    """Wait until it ends, or end it: a server once it is ready, any other when it hangs."""
    until = time.monotonic() + _CLOCK_S
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if serves and b"ready at http" in os.pread(said, 2**16, 0):
            process.send_signal(signal.SIGTERM)
            serves = False
        if time.monotonic() > until:
            process.kill()
        time.sleep(0.02)


def _listed(folder: Path) -> set[str]:
    """Return all that lies outside ``--out``."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.is_relative_to(folder / "out")
    }


def main() -> int:
    """Print what every kind of file came to."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _SOME
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        ground(folder)
        files = folder / "files"
        files.mkdir()
        outcomes = []
        for file in (*handmade(files), *mutated(files, count, seed)):
            for words in commands(file, folder):
                outcomes.append(trial(words, folder, file))
                _tell(outcomes[-1])
    finally:
        shutil.rmtree(folder)
    print(f"{count} mutated files (seed {seed}) beside those made by hand")
    print(f"{len(outcomes)} commands: {_counted(outcomes)}")
    print(f"most of the processor's time: {max(one.processor_s for one in outcomes):.1f} s")
    print(f"most memory of a process:     {max(one.memory_bytes for one in outcomes) / 1e9:.2f} GB")
    guilty = [one for one in outcomes if one.faults]
    print(f"faults: {len(guilty)}")
    return 1 if guilty else 0


def _tell(found: Outcome) -> None:
    """Print a fault as soon as it is found."""
    if found.faults:
        said = f"hasten {' '.join(found.words)}: {found.said[-200:]}"
        print(f"FAULT {', '.join(found.faults)}: {said}", flush=True)


def _counted(outcomes: list[Outcome]) -> str:
    ends = Counter((one.words[0], one.status) for one in outcomes)
    return ", ".join(f"{verb} {status}: {count}" for (verb, status), count in sorted(ends.items()))


if __name__ == "__main__":
    sys.exit(main())
