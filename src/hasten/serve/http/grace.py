"""The end of the process within its grace time, in every state."""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["end_within"]


def end_within(grace_s: float) -> None:
    """End the process after so many seconds with status 1, unless it has ended by then.

    A thread does that, and not the event loop: a run in native code that does not end can hold up
    threads that are waited for, and with them the interpreter's end.
    """
    timer = threading.Timer(grace_s, _end, (grace_s,))
    timer.daemon = True
    timer.start()


def _end(grace_s: float) -> None:
    sys.stderr.write(f"hasten: requests still ran after the grace time of {grace_s:g} s\n")
    sys.stderr.flush()
    os._exit(1)
