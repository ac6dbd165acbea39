"""Nothing is told to anyone: no verb looks a name up, calls anybody, or leaves files at home."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from command_line import PROGRAM
from onnx_models import linear
from programs import require_program
from served_models import put_onnx

#: A call to somebody by a network address; what is said of the address follows.
_CALL = re.compile(r"\b(?:connect|sendto|sendmmsg|sendmsg)\(.*sa_family=AF_INET6?, (.*)")
_OWN = re.compile(r'"127\.|"::1"|"::ffff:127\.')
#: ONNX Runtime tells of itself within so long.
_SERVED_S = 4.0
PATIENCE_S = 120


def environment(home: Path) -> Mapping[str, str]:
    """As a user has it who never heard of telemetry."""
    chosen = {"ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "CI"}
    kept = {name: value for name, value in os.environ.items() if name not in chosen}
    kept |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    return kept


def calls(folder: Path, *command: object, end_after_s: float | None = None) -> list[str]:
    """Run a command in a home of its own; return whom it called, other than this machine."""
    home, trace = folder / "home", folder / "trace"
    home.mkdir(exist_ok=True)
    watch = [
        require_program("strace"),
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=network",
        "-e",
        "signal=none",
        "-o",
        str(trace),
    ]
    process = subprocess.Popen(
        [*watch, *map(str, command)],
        cwd=folder,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        if end_after_s is not None:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready at")
            time.sleep(end_after_s)  # it is asked of nobody when a report is due
            os.killpg(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode in {0, 1, -signal.SIGTERM}, err
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    found = [line[1] for line in map(_CALL.search, trace.read_text().splitlines()) if line]
    return [call for call in found if not _OWN.search(call)]


def at_home(folder: Path) -> list[str]:
    """What lies at home that is not Hasten's."""
    home = folder / "home"
    return [str(path.relative_to(home)) for path in home.rglob("*") if "hasten" not in str(path)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    put_onnx(work / "net.onnx", linear())
    np.savez(work / "data.npz", x=np.random.default_rng(0).normal(size=(16, 4)).astype("f4"))
    return work


def test_who_is_called_is_seen(folder: Path) -> None:
    # An address for documents, where nobody listens; UDP needs nobody.
    script = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 53))"
    (called,) = calls(folder, sys.executable, "-c", script)
    assert "192.0.2.1" in called


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_bench_calls_nobody(folder: Path, runtime: str) -> None:
    verb = ("bench", "net.onnx", "--runtime", runtime, "--rounds", 2)
    assert calls(folder, *PROGRAM, *verb) == []
    assert at_home(folder) in ([], [".cache"])


def test_optimize_calls_nobody(folder: Path) -> None:
    verb = ("optimize", "net.onnx", "--data", "data.npz", "--out", "out.hasten", "--time", "10s")
    assert calls(folder, *PROGRAM, *verb) == []
    assert at_home(folder) in ([], [".cache"])


def test_serve_calls_nobody(folder: Path) -> None:
    verb = ("serve", "net.onnx", "--http-port", 0)
    assert calls(folder, *PROGRAM, *verb, end_after_s=_SERVED_S) == []
    assert at_home(folder) in ([], [".cache"])


def test_what_the_user_chose_stays(tmp_path: Path) -> None:
    script = (
        "import hasten, os; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    )
    chosen = {**environment(tmp_path), "ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=chosen, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "1"]
