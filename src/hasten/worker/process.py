"""The parent's side of a worker process: start, ask with a time limit, pause, stop."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hasten.errors import RuntimeFailureError
from hasten.runtimes import any_runtime
from hasten.worker.limits import TIME_VARIABLE, run_limit_s
from hasten.worker.protocol import (
    Cleaned,
    Fail,
    Locate,
    Located,
    Measure,
    Open,
    Opened,
    Predict,
    Predicted,
    Ran,
    Reply,
    Request,
    Times,
    receive_reply,
    send,
)

if TYPE_CHECKING:
    from hasten.runtimes import Execution, Lowered

__all__ = ["Worker"]

R = TypeVar("R", Opened, Times, Located, Predicted, Ran, Cleaned)

_MAX_POLL_MS = 2**31 - 1
#: As much of what the process printed is looked at when it crashed.
_LOG_TAIL_BYTES = 8192
#: A process gets at least this share of its time of a processor; how often it is looked at.
_WAIT_TIMES, _LOOK_S = 10.0, 0.25


class Worker:
    """One candidate in a process of its own.

    Between requests the process is stopped (SIGSTOP), so that whatever its thread pools do while
    idle, they do not do it beside another candidate's runs. Every request has a time limit; a
    worker that passes it, or dies, is gone, and RuntimeFailureError says how.

    Make it in a thread that outlives it: Linux ends the process with the thread that started it.
    """

    def __init__(self, scratch: Path, *, shared: tuple[int, ...] = ()) -> None:
        """Start the process; it inherits the descriptors ``shared``, under their own numbers."""
        scratch.mkdir(parents=True, exist_ok=True)
        self._gone = ""
        self._peak_bytes = 0
        self._run_limit_s = math.inf
        to_child, requests = os.pipe()
        replies, from_child = os.pipe()
        self._requests = os.fdopen(requests, "wb")
        self._replies = os.fdopen(replies, "rb")
        # What native libraries print goes here, and never between the replies.
        self._log = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - close() closes it
        try:
            self._process = _start(to_child, from_child, self._log.fileno(), shared)
        except BaseException:
            self._close_files()
            raise
        finally:
            os.close(to_child)
            os.close(from_child)

    def begin(self, request: Request) -> None:
        """Ask without waiting; then wait for the ``answer``."""
        if not self._gone:
            with suppress(BrokenPipeError):  # it has died: there will be no answer
                self._tell(request)

    def answer(self, kind: type[R], limit_s: float, doing: str) -> R:
        """Wait for the answer to what was begun, of this kind; ``doing`` is said in errors.

        The limit is of the processor's time, so that a busy machine does not make it shorter.
        """
        return self._await(kind, _WAIT_TIMES * limit_s, doing, limit_s)

    def begin_open(
        self, runtime: str, lowered: Lowered, execution: Execution, samples: Path
    ) -> None:
        """Have the candidate compiled, without waiting: several workers may do so side by side.

        Then ask for ``opened``. What goes wrong is said there.
        """
        fed_bytes = sum(file.stat().st_size for file in samples.glob("*.npy"))
        usual_s = 2 * any_runtime(runtime).open_s
        self._run_limit_s = run_limit_s(lowered.size_bytes, fed_bytes) + usual_s
        self.begin(Open(runtime, lowered, execution, str(samples), sys.path))

    def opened(self, limit_s: float) -> Opened:
        """Wait until it is compiled and run it once, for some compile then; both are timed."""
        until_s = time.monotonic() + limit_s
        opened = self._await(Opened, limit_s, "compiling")
        left_s = until_s - time.monotonic()
        self.begin(Measure(1, 0))
        doing = "running for the first time"
        first = self._await(Times, left_s, doing, self._run_limit_s)
        left_s = until_s - time.monotonic()
        located = self._ask(Locate(), Located, left_s, "saying where operators run")
        open_ns = opened.open_ns + max(first.runs_ns)
        return Opened(open_ns, first.peak_bytes, located.placement)

    def open(
        self, runtime: str, lowered: Lowered, execution: Execution, samples: Path, limit_s: float
    ) -> Opened:
        """Compile the candidate alone: ``begin_open`` and ``opened``."""
        self.begin_open(runtime, lowered, execution, samples)
        return self.opened(limit_s)

    def measure(self, runs: int, settle: int, limit_s: float) -> Times:
        """Run ``settle`` times unmeasured, then ``runs`` times measured."""
        return self._ask(Measure(runs, settle), Times, limit_s, "running")

    def predict(self, samples: Path, out: Path, batch: int, limit_s: float) -> None:
        """Write what all samples are answered to ``out``, run by run, ``batch`` samples a run."""
        request = Predict(str(samples), str(out), batch)
        self._ask(request, Predicted, limit_s, "predicting")

    def peak_memory_bytes(self) -> int:
        """Peak resident memory, as of its last answer; 0 before the first."""
        return self._peak_bytes

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return bool(self._gone)

    def close(self) -> None:
        """End the process, a stopped one too; harmless when it has ended already."""
        self._end("closed")
        self._close_files()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: Request, kind: type[R], limit_s: float, doing: str) -> R:
        self.begin(request)
        return self._await(kind, limit_s, doing)

    def _tell(self, request: Request) -> None:
        self._signal(signal.SIGCONT)
        send(self._requests, request)

    def _await(self, kind: type[R], limit_s: float, doing: str, processor_s: float = math.inf) -> R:
        if self._gone:
            raise RuntimeFailureError(f"not {doing}: the worker process is gone ({self._gone})")
        try:
            reply = self._reply(limit_s, processor_s)
        except TimeoutError:
            self._end(f"hung while {doing}")
            within_s = min(limit_s, processor_s)
            hint = "" if within_s < processor_s else f"; {TIME_VARIABLE} allows more"
            raise RuntimeFailureError(
                f"{self._gone}: no answer within {within_s:.3g} s{hint}"
            ) from None
        except EOFError:
            self._end(f"crashed while {doing}")
            raise RuntimeFailureError(f"{self._gone}: {self._epitaph()}") from None
        except BaseException:  # Ctrl-C: the next question would get the answer to this one
            self._end(f"interrupted while {doing}")
            raise
        if isinstance(reply, Fail):
            raise RuntimeFailureError(reply.reason)
        if not isinstance(reply, kind):
            raise RuntimeFailureError(f"answered {type(reply).__name__} while {doing}")
        self._peak_bytes = reply.peak_bytes
        return reply

    def _reply(self, limit_s: float, processor_s: float) -> Reply:
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        begin_s, used_s = time.monotonic(), self._processor_s()
        left_s, spare_s = limit_s, processor_s
        while not poll.poll(_milliseconds(min(left_s, max(spare_s, _LOOK_S)))):
            left_s = limit_s - (time.monotonic() - begin_s)
            spare_s = processor_s - (self._processor_s() - used_s)
            if left_s <= 0 or spare_s <= 0:
                raise TimeoutError
        reply = receive_reply(self._replies)
        self._signal(signal.SIGSTOP)
        return reply

    def _processor_s(self) -> float:
        """Return the processor's time that the process has taken; where unknown, the clock's."""
        try:
            with open(
                f"/proc/{self._process.pid}/stat", encoding="ascii", errors="replace"
            ) as file:
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            return time.monotonic()

    def _signal(self, number: signal.Signals) -> None:
        # Not Popen.send_signal, which may reap the process: its group is to be ended first.
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def _end(self, how: str) -> None:
        """Kill the process, and with it what it has started: compilers, for one."""
        if self._gone:
            return
        self._gone = how
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _epitaph(self) -> str:
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        if code == -signal.SIGKILL:
            how += ", as the system does when memory runs out"
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL_BYTES))
        lines = self._log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{how} ({last[:200]})" if last else how

    def _close_files(self) -> None:
        self._replies.close()
        self._log.close()
        with suppress(BrokenPipeError):  # a request that a dead worker never read
            self._requests.close()


def _milliseconds(seconds: float) -> int:
    return min(_MAX_POLL_MS, math.ceil(max(0.0, min(seconds, 1e6)) * 1e3))


def _start(
    requests: int, replies: int, log: int, shared: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    # Safe path: a random.py in the user's folder must not stand in for the standard one.
    program = [sys.executable, "-P", "-m", "hasten.worker.worker"]
    return subprocess.Popen(
        [*program, str(requests), str(replies), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(requests, replies, *shared),
        start_new_session=True,  # Ctrl-C is for the parent, which ends the workers itself
    )
