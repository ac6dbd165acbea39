"""The parent's side of a worker process: start, ask with a time limit, pause, stop."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hasten.errors import RuntimeFailureError
from hasten.measure.protocol import (
    Fail,
    Measure,
    Open,
    Opened,
    Peak,
    PeakBytes,
    Predict,
    Predicted,
    Request,
    Times,
    receive_reply,
    send,
)

if TYPE_CHECKING:
    from hasten.runtimes import Execution, Lowered

__all__ = ["Worker"]

R = TypeVar("R", Opened, Times, PeakBytes, Predicted)


class Worker:
    """One candidate in a process of its own.

    Between requests the process is stopped (SIGSTOP), so that whatever its thread pools do while
    idle, they do not do it beside another candidate's runs. Every request has a time limit; a
    worker that passes it, or dies, is gone, and RuntimeFailureError says how.
    """

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._log = scratch / f"worker-{time.monotonic_ns()}.log"
        to_child, requests = os.pipe()
        replies, from_child = os.pipe()
        self._requests = os.fdopen(requests, "wb")
        self._replies = os.fdopen(replies, "rb")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hasten.measure.worker", str(to_child), str(from_child)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(to_child, from_child),
                start_new_session=True,  # Ctrl-C is for the parent, which ends the workers itself
            )
        os.close(to_child)
        os.close(from_child)

    def open(
        self, runtime: str, lowered: Lowered, execution: Execution, samples: Path, limit_s: float
    ) -> Opened:
        """Compile the candidate and run it once."""
        request = Open(runtime, lowered, execution, str(samples))
        return self._ask(request, Opened, limit_s, "compiling")

    def measure(self, runs: int, settle: int, limit_s: float) -> Times:
        """Run ``settle`` times unmeasured, then ``runs`` times measured."""
        return self._ask(Measure(runs, settle), Times, limit_s, "running")

    def predict(self, samples: Path, out: Path, batch: int, limit_s: float) -> str | None:
        """Write the outputs of all samples to ``out``; returns what is not finite in them."""
        request = Predict(str(samples), str(out), batch)
        return self._ask(request, Predicted, limit_s, "predicting").problem

    def peak_memory_bytes(self) -> int:
        """Peak resident memory of the process so far."""
        return self._ask(Peak(), PeakBytes, 10.0, "reading its memory").bytes

    def close(self) -> None:
        """End the process; a stopped one too."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: Request, kind: type[R], limit_s: float, doing: str) -> R:
        self._signal(signal.SIGCONT)
        try:
            send(self._requests, request)
            if not select.select([self._replies], [], [], max(limit_s, 0.0))[0]:
                self.close()
                raise RuntimeFailureError(f"hung while {doing}: no answer within {limit_s:.0f} s")
            reply = receive_reply(self._replies)
        except (EOFError, BrokenPipeError):
            raise RuntimeFailureError(f"crashed while {doing}: {self._epitaph()}") from None
        self._signal(signal.SIGSTOP)
        if isinstance(reply, Fail):
            raise RuntimeFailureError(reply.reason)
        if not isinstance(reply, kind):
            raise RuntimeFailureError(f"answered {type(reply).__name__} while {doing}")
        return reply

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _epitaph(self) -> str:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{how} ({last[:200]})" if last else how
