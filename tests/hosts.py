"""Made-up hosts, as /proc and /sys tell of them."""

from __future__ import annotations

from pathlib import Path

from hasten.doctor import Host, observe
from hasten.measure.system_files import SystemFiles

CPU = "sys/devices/system/cpu"
HUGE = "sys/kernel/mm/transparent_hugepage"
CLOCKS = "sys/devices/system/clocksource/clocksource0"

INTERRUPTS = """\
           CPU0       CPU1       CPU2       CPU3
 36:          0       {disk}          0          0 PCI-MSIX 1-edge      nvme0q1
 41:         10          0          0       {net} PCI-MSIX 0-edge      eth0-rx
LOC:     409135     517517     400000     400000   Local timer interrupts
ERR:          0
"""

#: Four cores without hyper-threads, set as serving wants them.
TUNED = {
    "proc/cpuinfo": "model name : Fast CPU\nflags : fpu avx2 avx512_vnni amx_int8\n",
    "proc/self/status": "Cpus_allowed:\tf\nCpus_allowed_list:\t0-3\n",
    "proc/self/cgroup": "0::/\n",
    "proc/self/limits": "Limit  Soft  Hard  Units\nMax open files   65536  65536  files\n",
    "proc/meminfo": "MemTotal: 8000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
    "proc/loadavg": "0.50 0.40 0.30 1/100 4242\n",
    "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0\n",
    "proc/interrupts": INTERRUPTS.format(disk=100, net=100),
    "proc/irq/36/smp_affinity_list": "0-3\n",
    "proc/sys/net/core/somaxconn": "4096\n",
    "proc/sys/vm/swappiness": "60\n",
    "proc/sys/kernel/numa_balancing": "0\n",
    f"{CPU}/online": "0-3\n",
    f"{CPU}/isolated": "\n",
    f"{CPU}/smt/active": "0\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    **{f"{CPU}/cpu{at}/cpufreq/scaling_governor": "performance\n" for at in range(4)},
    **{f"{CPU}/cpu{at}/topology/thread_siblings_list": f"{at}\n" for at in range(4)},
    f"{CPU}/cpu0/cpuidle/state1/name": "C1\n",
    f"{CPU}/cpu0/cpuidle/state1/latency": "2\n",
    f"{CPU}/cpu0/cpuidle/state1/disable": "0\n",
    f"{HUGE}/enabled": "always [madvise] never\n",
    f"{HUGE}/defrag": "always defer [madvise] never\n",
    f"{CLOCKS}/current_clocksource": "tsc\n",
    f"{CLOCKS}/available_clocksource": "tsc hpet acpi_pm\n",
    "sys/devices/system/node/node0/cpulist": "0-3\n",
}


def put(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def look(root: Path, later: dict[str, str] | None = None) -> Host:
    """Observe for two seconds on an injected clock, after which ``later`` is so."""
    now = [0]

    def sleep(seconds: float) -> None:
        now[0] += int(seconds * 1e9)
        put(root, later or {})

    return observe(SystemFiles(root), watch_s=2.0, sleep=sleep, clock_ns=lambda: now[0])


def tuned(root: Path) -> Path:
    """Make a host in this folder on which nothing is to be changed."""
    put(root, TUNED)
    return root
