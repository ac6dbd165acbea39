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
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    lines.append(
        Figure("largest memory of the process", f"{peak_gb:.2f} GB", "<= 2 GB", peak_gb <= 2)
    )
    return report(lines)


if __name__ == "__main__":
    sys.exit(main())
