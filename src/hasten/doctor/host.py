"""What the host has: a record of what /proc and /sys say, before anything is judged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from hasten.doctor.interrupts import Counts, Interrupt, rates, read_counts
from hasten.measure.environment import TELLING_FLAGS
from hasten.measure.system_files import SystemFiles, cpu_list

__all__ = ["Host", "IdleState", "observe"]

_CPU = "/sys/devices/system/cpu"
_HUGE = "/sys/kernel/mm/transparent_hugepage"
_CLOCKS = "/sys/devices/system/clocksource/clocksource0"
#: Place of the hypervisor's share among the ticks of /proc/stat (man 5 proc).
_STEAL = 7


class IdleState(msgspec.Struct, frozen=True):
    """A sleep of the processor that is switched on: how long waking from it takes."""

    name: str
    latency_us: int


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, as this process may use it. None where the machine does not tell.

    ``cores`` holds the hyper-threads of each physical core that may be used; ``quota`` is the
    cgroup's limit in processors, and ``physical_cores`` is how many cores native threads may fill,
    never above the quota. ``steal_share`` and ``interrupts`` are of the time watched.
    """

    cpu: str | None
    flags: tuple[str, ...]
    virtual: bool
    online_cpus: tuple[int, ...]
    usable_cpus: tuple[int, ...]
    cores: tuple[tuple[int, ...], ...]
    smt_active: bool | None
    quota: float | None
    physical_cores: int
    throttled_periods: int
    isolated_cpus: tuple[int, ...]
    governors: dict[str, tuple[int, ...]]
    boost_off_by: str | None
    idle_states: tuple[IdleState, ...]
    clock_source: str | None
    clock_sources: tuple[str, ...]
    huge_pages: str | None
    huge_pages_defrag: str | None
    numa_nodes: dict[int, tuple[int, ...]]
    numa_balancing: bool | None
    memory_bytes: int
    swap_used_bytes: int
    swappiness: int | None
    load_1m: float
    steal_share: float
    open_files: int | None
    somaxconn: int | None
    irqbalance: bool
    interrupts: tuple[Interrupt, ...]
    watched_s: float


def observe(
    system: SystemFiles | None = None,
    *,
    watch_s: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> Host:
    """Read what the host has; counters are read twice, ``watch_s`` seconds apart."""
    system = system or SystemFiles()
    begin_ns = clock_ns()
    interrupts_before, ticks_before = read_counts(system), _ticks(system)
    sleep(watch_s)
    watched_s = max((clock_ns() - begin_ns) / 1e9, 1e-3)
    status = _fields(system.read("/proc/self/status"))
    online = _cpus(system, f"{_CPU}/online")
    allowed = cpu_list(status.get("Cpus_allowed_list", ""))
    usable = tuple(allowed) or online or tuple(range(os.cpu_count() or 1))
    cores, quota = _cores(system, usable), system.cgroup_quota()
    memory = _fields(system.read("/proc/meminfo"))
    return Host(
        cpu=system.cpu_model(),
        flags=tuple(flag for flag in TELLING_FLAGS if flag in _flags(system)),
        virtual="hypervisor" in _flags(system),
        online_cpus=online,
        usable_cpus=usable,
        cores=cores,
        quota=quota,
        physical_cores=max(1, min(len(cores), int(quota)) if quota else len(cores)),
        throttled_periods=system.throttled_periods(),
        isolated_cpus=_cpus(system, f"{_CPU}/isolated"),
        numa_nodes=_numa_nodes(system, usable),
        memory_bytes=_kilobytes(memory, "MemTotal"),
        swap_used_bytes=_kilobytes(memory, "SwapTotal") - _kilobytes(memory, "SwapFree"),
        load_1m=float((system.read("/proc/loadavg") or "0").split()[0]),
        steal_share=_steal_share(ticks_before, _ticks(system)),
        open_files=_open_files(system),
        irqbalance=any(
            system.read(path) == "irqbalance" for path in system.matching("/proc/[0-9]*/comm")
        ),
        interrupts=_interrupts(system, interrupts_before, watched_s),
        watched_s=watched_s,
        **_power(system, usable),
        **_kernel(system),
    )


def _power(system: SystemFiles, usable: tuple[int, ...]) -> dict[str, Any]:
    """Return what decides how fast the processor runs and wakes up."""
    governors: dict[str, tuple[int, ...]] = {}
    for cpu in usable:
        governor = system.read(f"{_CPU}/cpu{cpu}/cpufreq/scaling_governor")
        if governor:
            governors[governor] = (*governors.get(governor, ()), cpu)
    smt = system.number(f"{_CPU}/smt/active")
    return {
        "smt_active": None if smt is None else smt == 1,
        "governors": governors,
        "boost_off_by": _boost_off_by(system),
        "idle_states": _idle_states(system, usable),
    }


def _kernel(system: SystemFiles) -> dict[str, Any]:
    """Return settings of the kernel."""
    balancing = system.number("/proc/sys/kernel/numa_balancing")
    return {
        "clock_source": system.read(f"{_CLOCKS}/current_clocksource"),
        "clock_sources": tuple((system.read(f"{_CLOCKS}/available_clocksource") or "").split()),
        "huge_pages": system.selected(f"{_HUGE}/enabled"),
        "huge_pages_defrag": system.selected(f"{_HUGE}/defrag"),
        "numa_balancing": None if balancing is None else balancing > 0,
        "swappiness": system.number("/proc/sys/vm/swappiness"),
        "somaxconn": system.number("/proc/sys/net/core/somaxconn"),
    }


def _cores(system: SystemFiles, usable: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the usable hyper-threads of each core."""
    groups: dict[str, list[int]] = {}
    for cpu in usable:
        groups.setdefault(system.core_of(cpu), []).append(cpu)
    return tuple(tuple(group) for group in groups.values())


def _boost_off_by(system: SystemFiles) -> str | None:
    """Return what to write to switch boost on again; None where it is on or unknown."""
    if system.number(f"{_CPU}/intel_pstate/no_turbo") == 1:
        return f"echo 0 > {_CPU}/intel_pstate/no_turbo"
    if system.number(f"{_CPU}/cpufreq/boost") == 0:
        return f"echo 1 > {_CPU}/cpufreq/boost"
    return None


def _idle_states(system: SystemFiles, usable: tuple[int, ...]) -> tuple[IdleState, ...]:
    folders = system.matching(f"{_CPU}/cpu{usable[0]}/cpuidle/state*") if usable else []
    return tuple(
        IdleState(system.read(f"{folder}/name") or "", system.number(f"{folder}/latency") or 0)
        for folder in folders
        if system.number(f"{folder}/disable") == 0
    )


def _numa_nodes(system: SystemFiles, usable: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """Return the usable processors of each node that has any."""
    nodes = {}
    for folder in system.matching("/sys/devices/system/node/node[0-9]*"):
        cpus = _cpus(system, f"{folder}/cpulist")
        mine = tuple(cpu for cpu in cpus if cpu in usable)
        if mine:
            nodes[int(folder.rpartition("node")[2])] = mine
    return nodes


def _interrupts(system: SystemFiles, before: Counts, seconds: float) -> tuple[Interrupt, ...]:
    return tuple(rates(system, before, read_counts(system), seconds))


def _ticks(system: SystemFiles) -> list[int]:
    words = (system.read("/proc/stat") or "cpu").split("\n")[0].split()[1:]
    return [int(word) for word in words[: _STEAL + 1]]


def _steal_share(before: list[int], after: list[int]) -> float:
    passed = sum(after) - sum(before)
    if passed <= 0 or len(after) <= _STEAL:
        return 0.0
    return (after[_STEAL] - before[_STEAL]) / passed


def _open_files(system: SystemFiles) -> int | None:
    for line in (system.read("/proc/self/limits") or "").split("\n"):
        if line.startswith("Max open files"):
            soft = line.removeprefix("Max open files").split()[0]
            return int(soft) if soft.isdecimal() else None
    return None


def _cpus(system: SystemFiles, path: str) -> tuple[int, ...]:
    return tuple(cpu_list(system.read(path) or ""))


def _flags(system: SystemFiles) -> frozenset[str]:
    for line in (system.read("/proc/cpuinfo") or "").split("\n"):
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def _fields(text: str | None) -> dict[str, str]:
    pairs = (line.partition(":") for line in (text or "").split("\n"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _kilobytes(fields: dict[str, str], name: str) -> int:
    number = fields.get(name, "0").split()[0]
    return int(number) * 1024 if number.isdecimal() else 0
