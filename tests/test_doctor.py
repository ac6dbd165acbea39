"""What the host has and what is worth changing: on a made-up /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import hasten
from hasten.doctor import (
    Finding,
    Host,
    findings,
    observe,
)
from hasten.doctor.findings import RULES
from hasten.measure.system_files import SystemFiles, cpu_list
from onnx_models import linear

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, TUNED)
    return tmp_path


def found(
    root: Path, changes: dict[str, str] | None = None, later: dict[str, str] | None = None
) -> list[Finding]:
    put(root, changes or {})
    return findings(look(root, later))


def test_nothing_is_to_be_changed_on_a_tuned_host(root: Path) -> None:
    assert found(root) == []


def test_a_host_is_described(root: Path) -> None:
    host = look(root)
    assert host.cpu == "Fast CPU"
    assert host.flags == ("avx2", "avx512_vnni", "amx_int8")
    assert host.cores == ((0,), (1,), (2,), (3,))
    assert (host.physical_cores, host.memory_bytes) == (4, 8_000_000 * 1024)
    assert host.governors == {"performance": (0, 1, 2, 3)}
    assert (host.huge_pages, host.clock_source, host.watched_s) == ("madvise", "tsc", 2.0)
    assert not host.virtual


def test_a_machine_that_tells_nothing_has_nothing_to_change(tmp_path: Path) -> None:
    host = look(tmp_path)
    assert findings(host) == []
    assert host.usable_cpus == tuple(range(os.cpu_count() or 1))
    assert (host.cpu, host.quota, host.smt_active, host.interrupts) == (None, None, None, ())


CASES: dict[str, tuple[dict[str, str], dict[str, str], str, str, str]] = {
    "governor": (
        {f"{CPU}/cpu2/cpufreq/scaling_governor": "powersave"},
        {},
        "high",
        "powersave on cpus 2",
        "cpupower frequency-set -g performance",
    ),
    "boost": (
        {f"{CPU}/intel_pstate/no_turbo": "1"},
        {},
        "high",
        "boost is switched off",
        f"echo 0 > /{CPU}/intel_pstate/no_turbo",
    ),
    "quota": (
        {"sys/fs/cgroup/cpu.max": "150000 100000"},
        {},
        "medium",
        "allows 1.5 processors of 4",
        "docker update --cpus 4 CONTAINER  # or serve with at most 1 threads in all",
    ),
    "smt": (
        {
            f"{CPU}/cpu{at}/topology/thread_siblings_list": f"{at % 2},{at % 2 + 2}"
            for at in range(4)
        },
        {},
        "low",
        "4 hyper-threads share 2 cores",
        "taskset --cpu-list 0,1 hasten serve ...",
    ),
    "interrupts": (
        {},
        {"proc/interrupts": INTERRUPTS.format(disk=6100, net=100)},
        "medium",
        "nvme0q1 (IRQ 36) interrupts serving cores 3,000 times a second, most on cpu 1",
        "echo 3 > /proc/irq/36/smp_affinity_list",
    ),
    "idle states": (
        {
            f"{CPU}/cpu0/cpuidle/state3/name": "C6",
            f"{CPU}/cpu0/cpuidle/state3/latency": "133",
            f"{CPU}/cpu0/cpuidle/state3/disable": "0",
        },
        {},
        "medium",
        "(C6) that waking takes 133 us",
        "cpupower idle-set --disable-by-latency 100",
    ),
    "huge pages": (
        {f"{HUGE}/enabled": "always madvise [never]"},
        {},
        "low",
        "huge pages are off",
        f"echo madvise > /{HUGE}/enabled",
    ),
    "clock": (
        {f"{CLOCKS}/current_clocksource": "hpet"},
        {},
        "medium",
        "time is read from hpet",
        f"echo tsc > /{CLOCKS}/current_clocksource",
    ),
    "numa": (
        {
            "sys/devices/system/node/node0/cpulist": "0-1",
            "sys/devices/system/node/node1/cpulist": "2-3",
        },
        {},
        "medium",
        "cores of 2 memory nodes",
        "numactl --cpunodebind=0 --membind=0 hasten serve ...  # one server a node",
    ),
    "steal": (
        {},
        {"proc/stat": "cpu  150 0 150 1600 0 0 0 100 0 0\n"},
        "high",
        "the hypervisor took 10% of the processor time",
        "choose a machine with dedicated cores; nothing on this one changes it",
    ),
    "load": (
        {"proc/loadavg": "9.00 1 1 1/1 1"},
        {},
        "medium",
        "9.0 threads want to run on 4 cpus",
        "ps -eo pcpu,pid,comm --sort=-pcpu | head",
    ),
    "swap": (
        {"proc/meminfo": "MemTotal: 8000000 kB\nSwapTotal: 2000 kB\nSwapFree: 1000 kB\n"},
        {},
        "medium",
        "1 MB are swapped out, with a swappiness of 60",
        "sysctl vm.swappiness=10",
    ),
    "backlog": (
        {"proc/sys/net/core/somaxconn": "128"},
        {},
        "low",
        "at most 128 connections",
        "sysctl net.core.somaxconn=4096",
    ),
    "open files": (
        {"proc/self/limits": "Max open files   1024  4096  files"},
        {},
        "low",
        "at most 1024 files",
        "ulimit -n 65536",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_slows_a_host_is_found_with_its_command(root: Path, name: str) -> None:
    changes, later, severity, what, command = CASES[name]
    (finding,) = found(root, changes, later)
    assert (finding.name, finding.severity, finding.command) == (name, severity, command)
    assert what in finding.what
    assert finding.why


def test_every_rule_has_a_case(root: Path) -> None:
    fired = set()
    for name, (changes, later, *_) in CASES.items():
        place = root / name.replace(" ", "-")
        put(place, TUNED | changes)
        host = look(place, later)
        fired |= {rule.__name__ for rule in RULES if list(rule(host))}
    assert fired == {rule.__name__ for rule in RULES}


def test_the_most_severe_comes_first(root: Path) -> None:
    changes = {key: text for case in CASES.values() for key, text in case[0].items()}
    later = {key: text for case in CASES.values() for key, text in case[1].items()}
    severities = [finding.severity for finding in found(root, changes, later)]
    assert severities == sorted(severities, key=["high", "medium", "low"].index)


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({f"{CPU}/cpu{at}/cpufreq/scaling_governor": "schedutil" for at in range(4)}, "medium"),
        ({f"{CPU}/cpu0/cpufreq/scaling_governor": "conservative"}, "high"),
    ],
)
def test_governors_differ_in_how_slow_they_are(
    root: Path, changes: dict[str, str], severity: str
) -> None:
    assert [one.severity for one in found(root, changes)] == [severity]


def test_a_quota_that_has_stopped_the_process_is_severe(root: Path) -> None:
    changes = {
        "sys/fs/cgroup/cpu.max": "200000 100000",
        "sys/fs/cgroup/cpu.stat": "nr_periods 100\nnr_throttled 7\n",
    }
    (finding,) = found(root, changes)
    assert finding.severity == "high"
    assert "stopped this process in 7 periods" in finding.what


def test_a_quota_of_the_first_version_of_cgroups_is_read(root: Path) -> None:
    changes = {
        "proc/self/cgroup": "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    put(root, changes)
    assert (look(root).quota, look(root).physical_cores) == (2.5, 2)


@pytest.mark.parametrize("quota", ["max 100000", "400000 100000", "800000 100000"])
def test_a_quota_that_does_not_bind_is_none_to_change(root: Path, quota: str) -> None:
    assert found(root, {"sys/fs/cgroup/cpu.max": quota}) == []


def test_interrupts_go_to_cores_that_do_not_serve_where_there_are_any(root: Path) -> None:
    changes = {"proc/self/status": "Cpus_allowed_list:\t0-1\n"}
    later = {"proc/interrupts": INTERRUPTS.format(disk=6100, net=9100)}
    (finding,) = found(root, changes, later)
    assert "IRQ 36" in finding.what
    assert finding.command == "echo 2,3 > /proc/irq/36/smp_affinity_list"


def test_interrupts_that_are_together_on_the_last_core_stay(root: Path) -> None:
    assert found(root, later={"proc/interrupts": INTERRUPTS.format(disk=100, net=9100)}) == []


def test_a_balancer_of_interrupts_is_stopped_first(root: Path) -> None:
    changes = {"proc/77/comm": "irqbalance\n", "proc/78/comm": "bash\n"}
    later = {"proc/interrupts": INTERRUPTS.format(disk=6100, net=100)}
    (finding,) = found(root, changes, later)
    assert finding.command.startswith("systemctl stop irqbalance && echo 3 > ")


def test_an_idle_state_that_is_switched_off_is_no_finding(root: Path) -> None:
    changes = CASES["idle states"][0] | {f"{CPU}/cpu0/cpuidle/state3/disable": "1"}
    assert found(root, changes) == []


def test_compaction_on_first_touch_is_found(root: Path) -> None:
    changes = {f"{HUGE}/enabled": "[always] madvise never", f"{HUGE}/defrag": "[always] never"}
    (finding,) = found(root, changes)
    assert finding.command == f"echo defer+madvise > /{HUGE}/defrag"


def test_a_kernel_that_moves_pages_between_nodes_is_found(root: Path) -> None:
    changes = CASES["numa"][0] | {"proc/sys/kernel/numa_balancing": "1"}
    assert [one.name for one in found(root, changes)] == ["numa", "numa balancing"]


def test_one_node_of_which_cores_may_be_used_is_no_finding(root: Path) -> None:
    changes = CASES["numa"][0] | {"proc/self/status": "Cpus_allowed_list:\t0-1\n"}
    assert found(root, changes) == []


def test_a_clock_without_a_better_one_is_a_matter_of_booting(root: Path) -> None:
    changes = {
        f"{CLOCKS}/current_clocksource": "hpet",
        f"{CLOCKS}/available_clocksource": "hpet acpi_pm",
    }
    (finding,) = found(root, changes)
    assert finding.command == "boot with clocksource=tsc tsc=reliable"


@given(st.sets(st.integers(0, 300), min_size=1))
def test_lists_of_cpus_read_as_they_are_written(cpus: set[int]) -> None:
    assert cpu_list(",".join(map(str, sorted(cpus)))) == sorted(cpus)


# The verb, on this machine


def test_the_verb_prints_what_the_machine_has() -> None:
    done = hasten("doctor")
    assert done.status == 0
    assert "processor" in done.out
    assert "give a model or a bundle" in done.out
    assert "give --io" in done.out


def test_json_has_everything(tmp_path: Path) -> None:
    onnx.save(linear(), tmp_path / "net.onnx")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_bytes(b"content")
    arguments = [tmp_path / "net.onnx", "--io", tmp_path / "files", "--rounds", 2, "--json"]
    document = hasten("doctor", *arguments).document
    assert set(document["host"]) == {field.name for field in msgspec.structs.fields(Host)}
    assert isinstance(document["findings"], list)
    assert document["executors"]["layouts"][0]["items_per_s"] > 0
    assert document["executors"]["for_throughput"] in document["executors"]["layouts"]
    assert document["io_pool"]["size"] >= 1


def test_without_a_model_and_files_nothing_is_measured() -> None:
    document = hasten("doctor", "--json").document
    assert (document["executors"], document["io_pool"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds"),
        (["nothing.onnx"], "no such file"),
        (["--io", "nothing"], "no such file or folder"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    assert message in hasten("doctor", *arguments).complaint
