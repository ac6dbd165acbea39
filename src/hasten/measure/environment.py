"""What the machine was like while it measured: goes with each result, and names unrest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import msgspec

from hasten.measure.system_files import SystemFiles
from hasten.runtimes.vendor import cpu_flags

__all__ = ["TELLING_FLAGS", "Weather", "environment", "physical_cores"]

#: Flags that decide which kernels a runtime may use.
TELLING_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
_PACKAGES = ("hasten", "numpy", "onnx", "onnxruntime", "openvino", "ai-edge-litert", "torch")
#: Share of processor time taken by the hypervisor, or of load by others, that disturbs rounds.
_STOLEN_SHARE = 0.02
_BUSY_SHARE = 0.5
_SYSTEM = SystemFiles()


def environment() -> dict[str, Any]:
    """Fingerprint of this machine, for bundle.json: JSON values only."""
    flags = cpu_flags()
    return {
        "cpu": _SYSTEM.cpu_model() or platform.processor() or platform.machine(),
        "cpu_flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "physical_cores": physical_cores(),
        "usable_cpus": sorted(_usable_cpus()),
        "cgroup_cpu_quota": _SYSTEM.cgroup_quota(),
        "governor": _SYSTEM.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_1m": os.getloadavg()[0],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def physical_cores() -> int:
    """Count the cores this process may use: hyper-threads counted once, never above the quota."""
    cores = {_SYSTEM.core_of(cpu) for cpu in _usable_cpus()}
    quota = _SYSTEM.cgroup_quota()
    return max(1, min(len(cores), int(quota)) if quota else len(cores))


class Weather(msgspec.Struct, frozen=True):
    """Counters read before and after measuring; their difference names what disturbed it."""

    total_ticks: int
    stolen_ticks: int
    throttled_periods: int
    load_1m: float

    @classmethod
    def now(cls) -> Weather:
        """Read the counters; zeros where the system has none."""
        ticks = [
            int(word) for word in (_SYSTEM.read("/proc/stat") or "cpu 0").split("\n")[0].split()[1:]
        ]
        stolen_at = 7
        stolen = ticks[stolen_at] if len(ticks) > stolen_at else 0
        load = os.getloadavg()[0]
        return cls(sum(ticks[: stolen_at + 1]), stolen, _SYSTEM.throttled_periods(), load)

    def unrest_since(self, before: Weather) -> list[str]:
        """Likely causes of unstable rounds between two readings; empty in fair weather."""
        causes = []
        stolen = (self.stolen_ticks - before.stolen_ticks) / max(
            1, self.total_ticks - before.total_ticks
        )
        if stolen > _STOLEN_SHARE:
            causes.append(f"the hypervisor took {stolen:.0%} of the processor time (steal)")
        throttled = self.throttled_periods - before.throttled_periods
        if throttled > 0:
            causes.append(f"the cgroup quota stopped this process in {throttled} periods")
        cpus = os.cpu_count() or 1  # the load is that of the whole machine
        if self.load_1m > cpus * (1 + _BUSY_SHARE):
            causes.append(f"other work loads the machine ({self.load_1m:.1f} on {cpus} cpus)")
        return causes


def _usable_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
