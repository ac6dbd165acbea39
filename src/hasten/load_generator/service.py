"""A server that is started for the run, where a bundle or a model file is given, not a URL."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hasten.errors import OptionError, RuntimeFailureError
from hasten.load_generator.server import Server

__all__ = ["serving"]

_READY_WITHIN_S = 120.0
_LOOK_S = 0.05
_STOP_WITHIN_S = 10.0


@contextmanager
def serving(target: str, timeout_s: float) -> Iterator[Server]:
    """Yield the server of a URL, or one that ``hasten serve`` makes of a path meanwhile.

    Raises OptionError for what is neither, and RuntimeFailureError where it does not get ready.
    """
    if "://" in target or not Path(target).exists():
        if "://" not in target:
            raise OptionError(
                expected="a URL such as http://127.0.0.1:8000, or a bundle to serve",
                got=repr(target),
                where="URL",
            )
        yield Server.at(target, timeout_s)
        return
    port = _free_port()
    program = [sys.executable, "-c", "from hasten.cli.main import main; main()"]
    arguments = ["serve", target, "--host", "127.0.0.1", "--http-port", str(port)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*program, *arguments], stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            server = Server.at(f"http://127.0.0.1:{port}", timeout_s)
            until = time.monotonic() + _READY_WITHIN_S
            while not server.ready():
                if process.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    words = " ".join(said.read().decode(errors="replace").split())
                    raise RuntimeFailureError(
                        f"serving {target}: it did not get ready ({words[-300:] or 'no word'})"
                    )
                time.sleep(_LOOK_S)
            yield server
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
