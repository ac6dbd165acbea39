"""Memory that programs may use here: the machine's, or what cgroups leave of it."""

from __future__ import annotations

import os

from hasten.measure.system_files import SystemFiles

__all__ = ["usable_memory_bytes"]


def usable_memory_bytes(system: SystemFiles | None = None) -> int:
    """Return the memory of the machine in bytes, or what the cgroups leave of it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = (system or SystemFiles()).cgroup_memory_bytes()
    return machine if limit is None else min(machine, limit)
