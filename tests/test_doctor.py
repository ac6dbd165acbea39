"""What the host has, what is worth changing, and sizes: on a made-up /proc and /sys."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from command_line import hasten
from hasten.doctor import (
    ExecutorSizing,
    Finding,
    Host,
    findings,
    observe,
    size_executors,
    size_io_pool,
)
from hasten.doctor.executors import layouts
from hasten.doctor.findings import RULES
from hasten.doctor.io_pool import measured, pool_size
from hasten.errors import DataError, OptionError, RuntimeFailureError
from hasten.measure.system_files import SystemFiles, cpu_list
from hasten.runtimes import Execution
from onnx_models import linear
from workers import lowered, null_model, saved_samples

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


# Executors x threads


def size(folder: Path, execution: Execution | None = None, **behaviour: Any) -> ExecutorSizing:
    return size_executors(
        "null",
        lowered("null", null_model(**behaviour), folder),
        execution or Execution(),
        saved_samples(folder / "samples"),
        cores=2,
        rounds=3,
        scratch=folder / "scratch",
    )


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 6, 48, 96])
def test_layouts_never_fill_more_than_the_cores(cores: int) -> None:
    found = list(layouts(cores))
    assert found[0] == (1, 1)
    assert len(set(found)) == len(found)
    assert all(instances * threads <= cores for instances, threads in found)
    assert {(cores, 1), (1, cores)} <= set(found)


def test_every_layout_is_measured(tmp_path: Path) -> None:
    found = size(tmp_path, cost_ns=200_000)
    assert [str(one) for one in found.layouts] == ["1 x 1", "1 x 2", "2 x 1"]
    for one in found.layouts:
        assert one.items_per_s > 0
        assert one.latency_ms
        assert one.latency_ms.p50 > 0
        assert one.speedup
    assert found.layouts[0].speedup
    assert found.layouts[0].speedup.median == 1.0
    assert found.for_throughput in found.layouts
    assert found.for_latency in found.layouts


def test_the_rest_of_the_execution_is_kept(tmp_path: Path) -> None:
    found = size(tmp_path, Execution(threads=7, instances=9, batch=2), cost_ns=100_000)
    assert [(one.instances, one.threads) for one in found.layouts] == [(1, 1), (1, 2), (2, 1)]


def test_a_model_that_does_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailureError):
        size(tmp_path, fail="compile")


# Pools that wait


def test_the_rule_is_that_of_the_book() -> None:
    assert pool_size(cores=8, utilization=1.0, ratio=0.0) == 8
    assert pool_size(cores=8, utilization=0.5, ratio=9.0) == 40
    assert pool_size(cores=1, utilization=0.1, ratio=0.0) == 1


def test_waiting_is_what_is_left_of_the_clock_without_computing() -> None:
    wall, processor = iter([0, 100, 100, 200]), iter([0, 20, 20, 50])
    assert measured([int, int], lambda: next(wall), lambda: next(processor)) == (200, 50)


def test_a_pool_that_waits_nine_parts_of_ten_has_ten_threads_a_core(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    wall, processor = iter([0, 10_000_000]), iter([0, 1_000_000])
    found = size_io_pool(
        str(tmp_path / "a.bin"),
        cores=2,
        wall_ns=lambda: next(wall),
        processor_ns=lambda: next(processor),
    )
    assert (found.wait_ms, found.compute_ms, found.ratio, found.size) == (9.0, 1.0, 9.0, 20)
    assert str(found) == "2 x 1 x (1 + 9.000 ms / 1.000 ms) = 20 threads"


def test_images_are_read_and_decoded(tmp_path: Path) -> None:
    for at in range(3):
        pixels = np.full((16, 16, 3), at, np.uint8)
        (tmp_path / "class").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "class" / f"{at}.png")
    found = size_io_pool(str(tmp_path), cores=2)
    assert (found.does, found.tasks) == ("read from disk and decode", 3)
    assert found.compute_ms > 0
    assert found.size >= 2


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/"
        listening.shutdown()
        thread.join()


def test_a_url_is_fetched(server: str) -> None:
    found = size_io_pool(server, cores=1)
    assert (found.does, found.tasks) == (f"fetch {server}", 16)


def test_a_url_that_does_not_answer_is_refused(server: str) -> None:
    with pytest.raises(DataError, match="404"):
        size_io_pool(f"{server}nothing", cores=1)


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_source_without_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="Expected files or an"):
        size_io_pool(str(tmp_path / name), cores=1)


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"Expected an image.*a\.png"):
        size_io_pool(str(tmp_path), cores=1)


@pytest.mark.parametrize("utilization", [0.0, -1.0, 1.1])
def test_a_utilization_that_is_none_is_refused(tmp_path: Path, utilization: float) -> None:
    with pytest.raises(OptionError, match="--utilization"):
        size_io_pool(str(tmp_path), cores=1, utilization=utilization)


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
