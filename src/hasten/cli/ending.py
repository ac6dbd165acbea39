"""How the program ends: by a signal as by Ctrl-C, and in one line whatever went wrong."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from hasten.errors import HastenError, one_line

__all__ = ["EndedError", "ending_as_interrupts", "explained", "with_standard_streams"]

#: Asked for where an error is one of the program's own, by who will report it.
_TRACEBACK = "HASTEN_TRACEBACK"
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class EndedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP has come: whatever cleans up after Ctrl-C does so now."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def ending_as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise as Ctrl-C does, unless they are ignored (``nohup``)."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for one in _SIGNALS:
            if signal.getsignal(one) is signal.SIG_DFL:
                before[one] = signal.signal(one, _raise)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def explained(error: BaseException) -> str:
    """Say in one line what ended the program.

    An error of the operating system names its file; what nobody expected is said to be a fault of
    the program, with the place in it.
    """
    if isinstance(error, HastenError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        place = f" - at {error.filename!r}" if error.filename is not None else ""
        return f"{' '.join(error.strerror.split())}{place}"
    if isinstance(error, MemoryError):
        return "out of memory"
    if os.environ.get(_TRACEBACK):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return (
        f"a fault of the program itself{place}: {one_line(error)} ({_TRACEBACK}=1 shows where,"
        " please report it)"
    )


def with_standard_streams() -> None:
    """Open those of the three standard descriptors that are closed, and take any name there is.

    Otherwise the next file that is opened would be written to by whoever prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    with suppress(AttributeError):  # another stream, of a test
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    raise EndedError(number)
