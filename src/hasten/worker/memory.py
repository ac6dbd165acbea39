"""Memory of this process: what is resident, and its peak."""

from __future__ import annotations

import os
import resource
import sys

__all__ = ["peak_memory_bytes", "resident_memory_bytes"]


def peak_memory_bytes() -> int:
    """Return the most memory in bytes that was resident since the program was started.

    On Linux from ``VmHWM``: ``ru_maxrss`` survives exec there, so that a child of a large parent
    would start with the parent's peak.
    """
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory_bytes() -> int:
    """Return the memory in bytes that is resident now; where only the peak is known, the peak."""
    if sys.platform != "linux":
        return peak_memory_bytes()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
