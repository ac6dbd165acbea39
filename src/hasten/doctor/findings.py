"""What of the host slows serving, why, and the command that changes it.

Each rule is a function from a host to what it finds; ``RULES`` lists them. Commands are for root,
hold until the next start, and are printed, never run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from hasten.doctor.host import Host

__all__ = ["RULES", "Finding", "Severity", "findings"]

#: High costs throughput or stalls requests, medium costs tails, low is worth knowing.
Severity = Literal["high", "medium", "low"]

_ORDER: dict[Severity, int] = {"high": 0, "medium": 1, "low": 2}
_PERFORMANCE = "performance"
#: Governors that raise the clock only some time after work arrives, or never.
_SLOW_GOVERNORS = {"powersave", "ondemand", "conservative"}
_FAST_CLOCKS = {"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"}
_DEEP_IDLE_US = 100
_BUSY_INTERRUPTS_PER_S = 1000
_STOLEN_SHARE = 0.02
_BUSY_SHARE = 0.5
_SWAPPINESS = 10
_BACKLOG = 1024
_OPEN_FILES = 4096


class Finding(msgspec.Struct, frozen=True):
    """One thing to change: what is the case, why it matters, and how to change it."""

    name: str
    severity: Severity
    what: str
    why: str
    command: str


def findings(host: Host) -> list[Finding]:
    """Return all that is worth changing, the most severe first; empty where nothing is."""
    found = [finding for rule in RULES for finding in rule(host)]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def _governor(host: Host) -> Iterator[Finding]:
    others = {name: cpus for name, cpus in host.governors.items() if name != _PERFORMANCE}
    if others:
        where = ", ".join(f"{name} on cpus {_listed(cpus)}" for name, cpus in others.items())
        yield Finding(
            "governor",
            "high" if _SLOW_GOVERNORS & others.keys() else "medium",
            f"the frequency governor is {where}",
            "the clock rises only after work has arrived, so short requests run at a low one",
            "cpupower frequency-set -g performance",
        )


def _boost(host: Host) -> Iterator[Finding]:
    if host.boost_off_by:
        yield Finding(
            "boost",
            "high",
            "the processor's boost is switched off",
            "one busy core could run well above the nominal clock",
            host.boost_off_by,
        )


def _quota(host: Host) -> Iterator[Finding]:
    if host.quota is not None and host.quota < len(host.usable_cpus):
        throttled = host.throttled_periods
        yield Finding(
            "quota",
            "high" if throttled else "medium",
            f"the cgroup allows {host.quota:g} processors of {len(host.usable_cpus)}"
            + (f"; it stopped this process in {throttled} periods" if throttled else ""),
            "more threads than that use up a period's share early, and all stop until the next:"
            " a stall of up to 100 ms",
            f"docker update --cpus {len(host.usable_cpus)} CONTAINER"
            f"  # or serve with at most {host.physical_cores} threads in all",
        )


def _smt(host: Host) -> Iterator[Finding]:
    if any(len(core) > 1 for core in host.cores):
        first = _listed(tuple(core[0] for core in host.cores))
        yield Finding(
            "smt",
            "low",
            f"{len(host.usable_cpus)} hyper-threads share {len(host.cores)} cores",
            "two threads of a core share its vector units: more compute threads than cores gain"
            " little and lengthen the tail",
            f"taskset --cpu-list {first} hasten serve ...",
        )


def _interrupts(host: Host) -> Iterator[Finding]:
    busy = [
        (one, sum(rate for cpu, rate in one.per_second.items() if cpu in host.usable_cpus))
        for one in host.interrupts
    ]
    for interrupt, rate in busy:
        if rate < _BUSY_INTERRUPTS_PER_S:
            continue
        # Elsewhere where there is an elsewhere, else together on the last one.
        others = [cpu for cpu in host.online_cpus if cpu not in host.usable_cpus]
        target = _listed(tuple(others)) if others else str(max(host.usable_cpus))
        at = max(interrupt.per_second, key=lambda cpu: interrupt.per_second[cpu])
        if not others and set(interrupt.per_second) == {max(host.usable_cpus)}:
            continue  # all of them are there already
        stop = "systemctl stop irqbalance && " if host.irqbalance else ""
        yield Finding(
            "interrupts",
            "medium",
            f"{interrupt.device} (IRQ {interrupt.number}) interrupts serving cores"
            f" {rate:,.0f} times a second, most on cpu {at}",
            "an executor is stopped for each of them, and its caches are disturbed",
            f"{stop}echo {target} > /proc/irq/{interrupt.number}/smp_affinity_list",
        )


def _idle(host: Host) -> Iterator[Finding]:
    deep = [state for state in host.idle_states if state.latency_us > _DEEP_IDLE_US]
    if deep:
        slowest = max(deep, key=lambda state: state.latency_us)
        yield Finding(
            "idle states",
            "medium",
            f"idle cores may sleep so deep ({slowest.name}) that waking takes"
            f" {slowest.latency_us} us",
            "a request that finds the server idle waits for its core to wake up",
            f"cpupower idle-set --disable-by-latency {_DEEP_IDLE_US}",
        )


def _huge_pages(host: Host) -> Iterator[Finding]:
    path = "/sys/kernel/mm/transparent_hugepage"
    if host.huge_pages == "never":
        yield Finding(
            "huge pages",
            "low",
            "transparent huge pages are off",
            "large weights need many more entries of the address cache than they could",
            f"echo madvise > {path}/enabled",
        )
    if host.huge_pages == "always" and host.huge_pages_defrag == "always":
        yield Finding(
            "huge pages",
            "medium",
            "the kernel compacts memory whenever a page is first touched",
            "a request that allocates may wait milliseconds for it",
            f"echo defer+madvise > {path}/defrag",
        )


def _clock(host: Host) -> Iterator[Finding]:
    if host.clock_source is None or host.clock_source in _FAST_CLOCKS:
        return
    better = next((name for name in host.clock_sources if name in _FAST_CLOCKS), None)
    path = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    yield Finding(
        "clock",
        "medium",
        f"time is read from {host.clock_source}",
        "that is a call into the kernel, and a server reads the clock several times a request",
        f"echo {better} > {path}" if better else "boot with clocksource=tsc tsc=reliable",
    )


def _numa(host: Host) -> Iterator[Finding]:
    if len(host.numa_nodes) < 2:  # noqa: PLR2004 - one node is no NUMA
        return
    node = next(iter(host.numa_nodes))
    yield Finding(
        "numa",
        "medium",
        f"cores of {len(host.numa_nodes)} memory nodes may be used",
        "weights in another node's memory are read at about half the speed",
        f"numactl --cpunodebind={node} --membind={node} hasten serve ...  # one server a node",
    )
    if host.numa_balancing:
        yield Finding(
            "numa balancing",
            "low",
            "the kernel moves pages between nodes by itself",
            "it does so by making accesses fault, which adds to the tail of pinned servers",
            "sysctl kernel.numa_balancing=0",
        )


def _steal(host: Host) -> Iterator[Finding]:
    if host.steal_share > _STOLEN_SHARE:
        yield Finding(
            "steal",
            "high",
            f"the hypervisor took {host.steal_share:.0%} of the processor time",
            "other machines on the same host run on these cores, so no figure here is steady",
            "choose a machine with dedicated cores; nothing on this one changes it",
        )


def _load(host: Host) -> Iterator[Finding]:
    cpus = len(host.online_cpus) or 1
    if host.load_1m > cpus * (1 + _BUSY_SHARE):
        yield Finding(
            "load",
            "medium",
            f"{host.load_1m:.1f} threads want to run on {cpus} cpus",
            "executors wait for their turn, and measurements are unsteady",
            "ps -eo pcpu,pid,comm --sort=-pcpu | head",
        )


def _swap(host: Host) -> Iterator[Finding]:
    if host.swap_used_bytes and (host.swappiness or 0) > _SWAPPINESS:
        yield Finding(
            "swap",
            "medium",
            f"{host.swap_used_bytes / 1e6:,.0f} MB are swapped out, with a swappiness of"
            f" {host.swappiness}",
            "weights that were swapped out are read back from disk in the middle of a request",
            f"sysctl vm.swappiness={_SWAPPINESS}",
        )


def _limits(host: Host) -> Iterator[Finding]:
    if host.somaxconn is not None and host.somaxconn < _BACKLOG:
        yield Finding(
            "backlog",
            "low",
            f"at most {host.somaxconn} connections wait to be accepted",
            "a burst of clients beyond that is dropped and tries again a second later",
            "sysctl net.core.somaxconn=4096",
        )
    if host.open_files is not None and host.open_files < _OPEN_FILES:
        yield Finding(
            "open files",
            "low",
            f"at most {host.open_files} files may be open, and each connection is one",
            "connections beyond that are refused",
            "ulimit -n 65536",
        )


def _listed(cpus: tuple[int, ...]) -> str:
    return ",".join(map(str, cpus))


#: To add a rule, write it above and give it a line.
RULES: tuple[Callable[[Host], Iterator[Finding]], ...] = (
    _governor,
    _boost,
    _quota,
    _smt,
    _interrupts,
    _idle,
    _huge_pages,
    _clock,
    _numa,
    _steal,
    _load,
    _swap,
    _limits,
)
