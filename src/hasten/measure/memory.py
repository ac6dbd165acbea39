"""Peak resident memory of this process."""

from __future__ import annotations

import resource
import sys

__all__ = ["peak_memory_bytes"]


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
