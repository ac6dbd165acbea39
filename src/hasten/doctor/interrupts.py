"""Device interrupts by processor, from /proc/interrupts read twice."""

from __future__ import annotations

import msgspec

from hasten.measure.system_files import SystemFiles, cpu_list

__all__ = ["Counts", "Interrupt", "read_counts", "rates"]

#: What each line of /proc/interrupts has counted, by processor, and its device.
Counts = dict[str, tuple[dict[int, int], str]]


class Interrupt(msgspec.Struct, frozen=True):
    """One device's interrupts a second on each processor that had any, and where they may go."""

    number: int
    device: str
    per_second: dict[int, float]
    allowed_cpus: tuple[int, ...]


def read_counts(system: SystemFiles) -> Counts:
    """Return the counters of devices: lines with a number, not those of the processors' own."""
    lines = (system.read("/proc/interrupts") or "").split("\n")
    cpus = [int(word.removeprefix("CPU")) for word in lines[0].split() if word[3:].isdecimal()]
    found: Counts = {}
    for line in lines[1:]:
        number, _, rest = line.strip().partition(":")
        words = rest.split()
        if number.isdecimal() and len(words) > len(cpus):
            counts = {cpu: int(word) for cpu, word in zip(cpus, words, strict=False)}
            found[number] = (counts, words[-1])
    return found


def rates(system: SystemFiles, before: Counts, after: Counts, seconds: float) -> list[Interrupt]:
    """Return the devices that interrupted between two readings, the busiest first."""
    found = []
    for number, (counts, device) in after.items():
        earlier = before.get(number, ({}, ""))[0]
        per_second = {
            cpu: (count - earlier.get(cpu, count)) / seconds
            for cpu, count in counts.items()
            if count > earlier.get(cpu, count)
        }
        if per_second:
            allowed = cpu_list(system.read(f"/proc/irq/{number}/smp_affinity_list") or "")
            found.append(Interrupt(int(number), device, per_second, tuple(allowed)))
    return sorted(found, key=lambda one: -sum(one.per_second.values()))
