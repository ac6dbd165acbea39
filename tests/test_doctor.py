"""What a host has: a made-up one, and this machine as the verb prints it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import hasten
from hasten.doctor import Host, findings
from hasten.measure.system_files import cpu_list
from hosts import look, put, tuned
from onnx_models import linear


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tuned(tmp_path)


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


def test_a_quota_of_the_first_version_of_cgroups_is_read(root: Path) -> None:
    changes = {
        "proc/self/cgroup": "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    put(root, changes)
    assert (look(root).quota, look(root).physical_cores) == (2.5, 2)


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
