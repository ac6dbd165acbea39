"""How the program ends where its surroundings are poor, or somebody ends it: in one line."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import OUT, PROGRAM, finish, hasten, start
from nets import null_net
from test_cli_process import wait_for_worker

pytestmark = pytest.mark.usefixtures("place")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up_as_an_interrupt_does(number: signal.Signals, place: Path) -> None:
    net = null_net(place / "null.onnx", fail="hang_compile")
    scratch = place / "tmp"
    scratch.mkdir()
    process = start(
        *("optimize", net, "--runtime", "null", "--out", OUT, "--time", "60s"),
        folder=place,
        environment={"TMPDIR": str(scratch)},
    )
    wait_for_worker(process)
    process.send_signal(number)
    done = finish(process)
    assert done.status == 128 + number
    assert done.err == f"hasten: ended by {number.name}; nothing was written\n"
    assert list(scratch.iterdir()) == []
    assert not (place / OUT).exists()


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))


@pytest.mark.parametrize("prepare", [few_files, None])
@pytest.mark.parametrize("closed", [(), (1,), (0, 1, 2)])
def test_poor_surroundings_are_no_traceback(
    prepare: Callable[[], None] | None, closed: tuple[int, ...], net: Path, place: Path
) -> None:
    def before() -> None:
        if prepare is not None:
            prepare()
        for one in closed:
            os.close(one)

    done = subprocess.run(
        [*PROGRAM, "bench", str(net), "--rounds", "1"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in {0, 2}
    assert done.stderr.count("\n") <= 1


def test_no_home_no_temporary_folder_and_no_stdout_are_one_line(net: Path, place: Path) -> None:
    full = {"TMPDIR": "/proc/nowhere", "TEMP": "", "TMP": ""}
    for environment in ({"HOME": ""}, full):
        done = finish(start("bench", net, "--rounds", 1, folder=place, environment=environment))
        assert "Traceback" not in done.err
    with Path("/dev/full").open("w") as stdout:
        done_full = subprocess.run(
            [*PROGRAM, "bench", "--help"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done_full.returncode, done_full.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in done_full.stderr


@pytest.mark.parametrize("flag", ["--data", "--metric"])
def test_a_callable_that_exits_is_an_error(flag: str, net: Path, data: Path, place: Path) -> None:
    (place / "leaves.py").write_text("import sys\ndef leave(*_, **__):\n    sys.exit(0)\n")
    given = {"--data": str(data)} | {flag: "leaves:leave"}
    flags = [word for pair in given.items() for word in pair]
    said = hasten("optimize", net, "--out", OUT, "--runtime", "onnxruntime", *flags)
    assert said.status == 2
    assert "sys.exit(0)" in said.err


def test_a_module_that_exits_when_it_is_imported_is_an_error(net: Path, place: Path) -> None:
    (place / "exits.py").write_text("raise SystemExit\n")
    done = subprocess.run(
        [sys.executable, *PROGRAM[1:], "optimize", "exits:net", "--out", OUT],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "sys.exit(None)" in done.stderr
