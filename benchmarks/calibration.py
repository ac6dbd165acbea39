"""What calibrating EfficientNet-Lite0 on 512 images costs in time and memory.

Run: ``python benchmarks/calibration.py | tee benchmarks/calibration.txt``. Exits 1 unless
static int8 takes 60 s at most, with weights rounded to nearest and adaptively, within 2 GB of
memory in all.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure, report
from hasten.compress import Context, StaticInt8, apply_step
from solar import solar

IMAGES = 512
CONFIGS = {
    "static int8, nearest": StaticInt8(),
    "static int8, 4 bits, adaptive": StaticInt8(weights="w4", rounding="adaptive"),
}


def main() -> int:
    """Run both, each from nothing; 0 where the claims hold."""
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        found = solar(Path(scratch), calibration=IMAGES, held_out=1)
        for name, config in CONFIGS.items():
            start = time.perf_counter()
            apply_step(found.model, config, Context(Path(scratch), found.calibration))
            spent_s = time.perf_counter() - start
            what = f"{name}, {len(found.calibration)} images of 224x224"
            lines.append(Figure(what, f"{spent_s:.0f} s", "<= 60 s", spent_s <= 60))
    # Linux begins a child's peak with its parent's, so the sum is rather too large than too small.
    whose = {"process": resource.RUSAGE_SELF, "worker": resource.RUSAGE_CHILDREN}
    peaks = {name: resource.getrusage(who).ru_maxrss / 1e6 for name, who in whose.items()}
    parts = ", ".join(f"{name} {peak:.2f}" for name, peak in peaks.items())
    total = sum(peaks.values())
    lines.append(Figure(f"largest memory ({parts})", f"{total:.2f} GB", "<= 2 GB", total <= 2))
    return report(lines)


if __name__ == "__main__":
    sys.exit(main())
