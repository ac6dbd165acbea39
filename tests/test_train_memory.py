"""Memory that is kept while a network is trained, and given back afterwards."""

from __future__ import annotations

import json
import subprocess
import sys

MB = 2**20
PIECES, PIECE = 16, 16 * MB

#: In a process of its own: what a heap already holds decides what is taken from it.
PROGRAM = """
import json
from pathlib import Path
import torch
from hasten.train.memory import kept_memory

def resident_bytes():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024

def fill():
    pieces = [torch.ones({piece} // 4) for _ in range({pieces})]
    del pieces

fill()
before = resident_bytes()
with kept_memory():
    fill()
    kept = resident_bytes() - before
print(json.dumps([kept, resident_bytes() - before]))
"""


def test_freed_memory_is_kept_and_goes_back_at_the_end() -> None:
    program = PROGRAM.replace("{piece}", str(PIECE)).replace("{pieces}", str(PIECES))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    kept, after = json.loads(done.stdout)
    assert kept > PIECES * PIECE // 2
    assert after < PIECES * PIECE // 4
