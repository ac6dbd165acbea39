"""Memory that is kept while a network is trained, and given back afterwards."""

from __future__ import annotations

from pathlib import Path

import torch

from hasten.train.memory import kept_memory

MB = 2**20
PIECES, PIECE = 16, 16 * MB


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def fill() -> None:
    pieces = [torch.ones(PIECE // 4) for _ in range(PIECES)]
    del pieces


def test_freed_memory_is_kept_and_goes_back_at_the_end() -> None:
    fill()
    before = resident_bytes()
    with kept_memory():
        fill()
        kept = resident_bytes() - before
    after = resident_bytes() - before
    assert kept > PIECES * PIECE // 2
    assert after < PIECES * PIECE // 4
