from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hasten.measure.memory import usable_memory_bytes
from hasten.measure.system_files import SystemFiles
from hasten.worker.memory import peak_memory_bytes, resident_memory_bytes

_PRINT_PEAK = """
from hasten.worker.memory import peak_memory_bytes
before = peak_memory_bytes()
block = bytearray(64 * 2**20)
held = peak_memory_bytes()
del block
print(before, held, peak_memory_bytes())
"""


def peaks_of_a_child() -> list[int]:
    run = [sys.executable, "-c", _PRINT_PEAK]
    return [int(word) for word in subprocess.check_output(run, text=True).split()]


def test_the_peak_grows_by_what_is_held_and_stays_when_it_is_freed() -> None:
    before, held, after = peaks_of_a_child()
    assert 60 * 2**20 < held - before < 80 * 2**20
    assert after > held - 2**20  # the kernel counts in batches


def test_a_child_does_not_start_with_the_peak_of_its_parent() -> None:
    block = bytearray(300 * 2**20)
    assert peak_memory_bytes() > len(block)
    assert peaks_of_a_child()[0] < 100 * 2**20


def test_what_is_resident_falls_again_when_it_is_freed() -> None:
    # From the system itself: what malloc frees may stay in a hole of the heap.
    before = resident_memory_bytes()
    with mmap.mmap(-1, 64 * 2**20) as block:
        block.write(b"\1" * len(block))
        held = resident_memory_bytes()
    assert held - before > 60 * 2**20
    assert resident_memory_bytes() < held - 60 * 2**20


@pytest.mark.parametrize(
    ("cgroup", "limit"),
    [
        ("0::/a/b", "a/memory.max"),
        ("4:memory:/a/b", "memory/a/memory.limit_in_bytes"),
    ],
)
def test_a_cgroup_leaves_less_than_the_machine_has(tmp_path: Path, cgroup: str, limit: str) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    of_self = tmp_path / "proc/self/cgroup"
    of_limit = tmp_path / "sys/fs/cgroup" / limit
    for path in (of_self, of_limit):
        path.parent.mkdir(parents=True)
    of_self.write_text(cgroup)
    for text, usable in (("5000", 5000), ("max", machine), (str(2**63 - 4096), machine)):
        of_limit.write_text(text)
        assert usable_memory_bytes(SystemFiles(tmp_path)) == usable
