"""XNNPACK's weight cache: instances of one model in one process share their packed weights.

The first instance writes the packed weights to a file, and the others map it into memory.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["weight_cache"]

_LOCK = threading.Lock()
#: By file as it was, the folder of its cache; each goes with the process.
_FOLDERS: dict[tuple[str, int, int], tempfile.TemporaryDirectory[str]] = {}


@contextmanager
def weight_cache(model: str) -> Iterator[str]:
    """Yield the path of the model's cache in this process; one instance at a time compiles.

    A cache says nothing of the model it was made from, so a file that was changed gets a new one.
    """
    found = os.stat(model)
    key = (model, found.st_size, found.st_mtime_ns)
    with _LOCK:
        if key not in _FOLDERS:
            _FOLDERS[key] = tempfile.TemporaryDirectory(prefix="hasten-weights-")
        yield str(Path(_FOLDERS[key].name) / "packed")
