"""How much memory and time a model may take in a worker: by its file, and by what it is fed.

A graph of some hundred bytes can loop without end, or ask for a terabyte. What an honest one needs
grows with its weights and its inputs: activations of a network that paints pictures are some
hundred times its input, and runtimes hold weights several times over. These limits are far above
that, and far below what would harm the machine. ``HASTEN_MODEL_MEMORY_MB`` and
``HASTEN_MODEL_TIME_S`` set others.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress

__all__ = [
    "TIME_VARIABLE",
    "compile_limit_s",
    "let_grow",
    "memory_limit_bytes",
    "run_limit_s",
    "slim_limit_s",
]

TIME_VARIABLE = "HASTEN_MODEL_TIME_S"
_MEMORY = "HASTEN_MODEL_MEMORY_MB"
#: Beyond what the process has when it begins; a hostile file may take a gigabyte, with the parent.
_BASE_BYTES = 640 * 2**20
_PER_FILE_BYTE, _PER_FED_BYTE = 8, 256
#: Stacks of a thread, and the arena that malloc gives it.
_THREAD_BYTES = 16 * 2**20
_BASE_S = 6.0
_RUN_BYTES_PER_S = 2 * 2**20
_COMPILE_BYTES_PER_S = 2**18
_NODES_PER_S = 20


def memory_limit_bytes(file_bytes: int, fed_bytes: int) -> int:
    """Return how much memory a model may take beyond what its process has already."""
    named = _named(_MEMORY)
    if named is not None:
        return int(named * 1e6)
    threads = _THREAD_BYTES * (os.cpu_count() or 1)
    return _BASE_BYTES + threads + _PER_FILE_BYTE * file_bytes + _PER_FED_BYTE * fed_bytes


def run_limit_s(file_bytes: int, fed_bytes: int) -> float:
    """Return how long one run may take, in seconds of the processor."""
    named = _named(TIME_VARIABLE)
    return _BASE_S + (file_bytes + fed_bytes) / _RUN_BYTES_PER_S if named is None else named


def compile_limit_s(file_bytes: int, usual_s: float) -> float:
    """Return how long compiling may take; ``usual_s`` is what the runtime takes for any model."""
    named = _named(TIME_VARIABLE)
    return _BASE_S + 4 * usual_s + file_bytes / _COMPILE_BYTES_PER_S if named is None else named


def slim_limit_s(file_bytes: int, nodes: int) -> float:
    """Return how long cleaning a graph of so many nodes may take."""
    return compile_limit_s(file_bytes, 0.0) + nodes / _NODES_PER_S


def let_grow(file_bytes: int, fed_bytes: int) -> None:
    """Let this process take as much memory as a model may, and no more; never less than before.

    Memory that is beyond it cannot be had: libraries say so, or the process ends.
    """
    if sys.platform != "linux":  # elsewhere the limit is not one of what is taken
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_bytes() + memory_limit_bytes(file_bytes, fed_bytes)
    if soft != resource.RLIM_INFINITY and wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _data_bytes() -> int:
    """Return what of this process counts towards the limit (``VmData`` in /proc/PID/status)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _named(variable: str) -> float | None:
    with suppress(ValueError):
        value = float(os.environ.get(variable, ""))
        return value if value > 0 else None
    return None
