"""The command line as a user meets it: arguments in; exit status, stdout and stderr out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from hasten.cli.main import main

#: Where tests let a command write.
OUT = "out.hasten"
PROGRAM = [sys.executable, "-c", "from hasten.cli.main import main; main()"]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line that says what was wrong with the input."""
        assert self.status == 2, self.err
        assert self.out == ""
        line, end, more = self.err.partition("\n")
        assert (end, more) == ("\n", "")
        assert line.startswith("hasten: ")
        return line.removeprefix("hasten: ")


def hasten(*arguments: object) -> Done:
    """Run a verb in this process."""
    out, err = io.StringIO(), io.StringIO()
    status: int | str | None = None
    with (
        mock.patch.object(sys, "argv", ["hasten", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    assert isinstance(status, int)
    return Done(status, out.getvalue(), err.getvalue())


def refused(*arguments: object, **more: object) -> str:
    """Optimise with these; returns the complaint."""
    flags = [f"--{name.replace('_', '-')}={given}" for name, given in more.items()]
    complaint = hasten("optimize", *arguments, "--out", OUT, *flags).complaint
    assert not Path(OUT).exists()
    return complaint


def start(
    *arguments: object,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    descriptors: int | None = None,
) -> subprocess.Popen[str]:
    """Start a verb in a process of its own, with ``folder`` as the current one."""
    limit = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"] if descriptors else []
    return subprocess.Popen(
        [*limit, *PROGRAM, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], limit_s: float = 90.0) -> Done:
    """Wait for it."""
    out, err = process.communicate(timeout=limit_s)
    return Done(process.returncode, out, err)


def with_status(document: Mapping[str, Any], *wanted: str) -> Sequence[dict[str, Any]]:
    """Candidates of a bundle.json that ended with one of these."""
    return [one for one in document["evidence"]["candidates"] if one["status"] in wanted]
