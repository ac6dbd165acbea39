"""What slows a made-up host is found, with the command that changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasten.doctor import Finding, findings
from hasten.doctor.findings import RULES
from hosts import CLOCKS, CPU, HUGE, INTERRUPTS, TUNED, look, put, tuned


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tuned(tmp_path)


def found(
    root: Path, changes: dict[str, str] | None = None, later: dict[str, str] | None = None
) -> list[Finding]:
    put(root, changes or {})
    return findings(look(root, later))


def test_nothing_is_to_be_changed_on_a_tuned_host(root: Path) -> None:
    assert found(root) == []


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
