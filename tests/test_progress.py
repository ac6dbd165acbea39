"""Progress bars: on a terminal, for what takes longer than two seconds, and nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command_line import PROGRAM
from nets import saved_data, saved_net

#: Begins a stage, does a third of it, and ends it when a line comes in.
_CODE = """
import sys
from hasten.cli.progress import shown
with shown().stage("calibrating", 3) as advance:
    advance(1)
    sys.stdin.readline()
"""
STAGE = [sys.executable, "-c", _CODE]
#: More than anything here takes.
_LIMIT_S = 60.0
ERASE_LINE = "\x1b[2K"


class Shown:
    """A program whose stderr is a pseudo-terminal, and what it writes there."""

    def __init__(self, command: list[str]) -> None:
        self._read, side = pty.openpty()
        try:
            self.process = start(command, side)
        finally:
            os.close(side)

    def until(self, text: str) -> str:
        """Read up to this text, or to the end of the program."""
        seen = ""
        while text not in seen and (more := self._more()):
            seen += more
        return seen

    def finish(self) -> tuple[str, str]:
        """Let the stage end; returns stdout, and what else came on the terminal."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seen = ""
        while more := self._more():  # before stdout: a full terminal would stop the program
            seen += more
        return self.process.communicate(timeout=_LIMIT_S)[0], seen

    def _more(self) -> str:
        assert select.select([self._read], [], [], _LIMIT_S)[0], "nothing came for a minute"
        try:
            return os.read(self._read, 4096).decode(errors="replace")
        except OSError:  # so Linux says that nobody is left to write
            return ""

    def close(self) -> None:
        os.close(self._read)
        self.process.kill()
        self.process.communicate()


Show = Callable[[list[str]], Shown]


@pytest.fixture
def show() -> Iterator[Show]:
    with contextlib.ExitStack() as stack:

        def made(command: list[str]) -> Shown:
            return stack.enter_context(contextlib.closing(Shown(command)))

        yield made


def start(command: list[str], stderr: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )


def test_a_stage_that_lasts_shows_a_bar_with_what_is_done(show: Show) -> None:
    shown = show(STAGE)
    assert "1/3" in shown.until("1/3")
    shown.finish()
    assert shown.process.returncode == 0


def test_the_bar_is_gone_when_its_stage_ends(show: Show) -> None:
    shown = show(STAGE)
    assert "calibrating" in shown.until("calibrating")
    _, after = shown.finish()
    assert ERASE_LINE in after.rpartition("calibrating")[2]


def test_a_short_stage_leaves_the_terminal_alone(show: Show) -> None:
    _, seen = show(STAGE).finish()
    assert "calibrating" not in seen


def test_nothing_is_written_where_stderr_is_no_terminal() -> None:
    code = "from hasten.cli.progress import shown; print(type(shown()).__name__)"
    process = start([sys.executable, "-c", code], subprocess.PIPE)
    out, err = process.communicate(timeout=_LIMIT_S)
    assert (out.strip(), err) == ("Quiet", "")


def test_bars_of_a_command_leave_its_document_alone(show: Show, tmp_path: Path) -> None:
    net, data = saved_net(tmp_path), saved_data(tmp_path)
    command = ["optimize", str(net), "--data", str(data), "--out", str(tmp_path / "b")]
    # All runtimes: on a fast machine the screening of one ends before a bar would be shown.
    flags = ["--time", "14s", "--json"]
    out, seen = show([*PROGRAM, *command, *flags]).finish()
    assert json.loads(out)["format_version"] == 1
    assert "screening" in seen
