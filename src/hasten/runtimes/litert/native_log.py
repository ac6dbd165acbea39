"""What native code prints on stderr, for a while: some of it is said nowhere else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["native_log"]

_STDERR = 2


@contextmanager
def native_log() -> Iterator[Callable[[], str]]:
    """Yield a function that returns what was printed so far; all of it is printed in the end.

    It holds for the whole process: what other threads print meanwhile is in it too.
    """
    kept = os.dup(_STDERR)
    with tempfile.TemporaryFile() as log:

        def printed() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")

        os.dup2(log.fileno(), _STDERR)
        try:
            yield printed
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            os.write(_STDERR, printed().encode())
