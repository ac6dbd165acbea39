"""Run every benchmark and keep its output beside it: calibrators.py -> calibrators.txt.

Run: python benchmarks/run_all.py [NAME ...]. Takes about four hours; exits 1 if one misses.
``architectures`` runs only where it is named: it installs some 250 MB of packages.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_ALL = (
    *("hostile_files", "planted_ruin", "calibrators", "overhead", "agreement", "compare"),
    *("calibration", "equalization", "four_bits", "distillation", "mixed_precision"),
    *("lite0_chain", "detector"),
    *("demo", "race", "litert", "litert_gpu", "load"),
    *("batcher_simulation", "serving", "serving_demo", "serving_modes", "serving_overload"),
    *("serving_cache", "zero_copy", "serving_poison", "serving_soak", "serving_hostile"),
)


def main(names: list[str]) -> int:
    """Run them one after another: side by side they would disturb each other."""
    status = 0
    for name in names or _ALL:
        print(f"--- {name}", flush=True)
        program = [sys.executable, str(_HERE / f"{name}.py")]
        done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=False)
        (_HERE / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
        print(done.stdout)
        status = status or done.returncode
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
