"""What weights of 4 bits cost after training, and how much of it adaptive rounding gets back.

Run: ``python benchmarks/four_bits.py | tee benchmarks/four_bits.txt``. Three seeds, each a network
of its own and digits held out of its own. Exits 1 unless, in the mean over the seeds, nearest
levels lose 2 points or more and adaptive rounding at most half of that, with and without corrected
biases.

Activations have 8 bits throughout, ranges are min-max, and the float network is the reference. The
network is narrow on purpose: wide ones lose next to nothing on digits.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from digits import accuracy, trained
from figures import Figure, report
from hasten.compress import Context, StaticInt8, apply_step

SEEDS = (0, 1, 2)
WIDTH, DEPTH = 8, 8
CONFIGS = {
    "8 bits": StaticInt8(),
    "4 bits, nearest": StaticInt8(weights="w4", bias="plain"),
    "4 bits, nearest, corrected biases": StaticInt8(weights="w4"),
    "4 bits, adaptive": StaticInt8(weights="w4", bias="plain", rounding="adaptive"),
    "4 bits, adaptive, corrected biases": StaticInt8(weights="w4", rounding="adaptive"),
}


def losses(seed: int, scratch: Path) -> dict[str, float]:
    """Train and quantize in each way; points lost against float."""
    model, calibration, test = trained(seed, WIDTH, DEPTH)
    exact, context = accuracy(model, test), Context(scratch, calibration)
    found = {
        name: exact - accuracy(apply_step(model, config, context), test)
        for name, config in CONFIGS.items()
    }
    lost = ", ".join(f"{name}: {points:+.1f}" for name, points in found.items())
    print(f"seed {seed}: float {exact:.1f} %; points lost: {lost}", flush=True)
    return found


def main() -> int:
    """Run all; 0 where the claims hold."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        seeds = [losses(seed, Path(scratch)) for seed in SEEDS]
    mean = {name: float(np.mean([found[name] for found in seeds])) for name in CONFIGS}
    lines = [Figure("8 bits", f"{mean['8 bits']:.1f} points lost", "(to compare)", True)]
    for more in ("", ", corrected biases"):
        nearest, adaptive = mean[f"4 bits, nearest{more}"], mean[f"4 bits, adaptive{more}"]
        lines += [
            Figure(f"4 bits, nearest{more}", f"{nearest:.1f} points lost", ">= 2", nearest >= 2),
            Figure(
                f"4 bits, adaptive{more}",
                f"{adaptive:.1f} points lost",
                f"<= half of {nearest:.1f}",
                adaptive <= nearest / 2,
            ),
        ]
    return report(lines)


if __name__ == "__main__":
    sys.exit(main())
