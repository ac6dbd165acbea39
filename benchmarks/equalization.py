"""A network made hostile to int8 by exact rescaling of its channels, and what brings it back.

Run: ``python benchmarks/equalization.py | tee benchmarks/equalization.txt``. Three seeds, each a
network of its own and digits held out of its own. Exits 1 unless for each of them min-max int8 of
the hostile network loses 5 points or more, and equalization brings it back to within 0.3 of float.

Each channel between two layers is divided by a number from 1/30 to 30, and the weights that read it
are multiplied by the same: the float network computes what it did before.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from digits import accuracy, trained
from figures import Figure, report
from hasten.compress import Context, Equalize, SmoothActivations, StaticInt8, StepConfig, apply_step
from hasten.compress.rescaling.scaling import ChannelScaling
from hasten.graph import Model, model_from_proto

SEEDS = (0, 1, 2)
WIDTH, DEPTH = 16, 6
#: Decades from the smallest to the largest scale.
SPREAD = 3.0


def hostile(model: Model, seed: int) -> Model:
    """The same function, with channels of very different sizes."""
    scaling = ChannelScaling(model.graph)
    random = np.random.default_rng(seed)
    scales = 10 ** random.uniform(-SPREAD / 2, SPREAD / 2, scaling.flow.size)
    return model_from_proto(scaling.rescaled(np.where(scaling.free, scales, 1.0)), "hostile")


def measure(seed: int, scratch: Path) -> list[Figure]:
    """Train, rescale, quantize; one line for each way to int8."""
    model, calibration, test = trained(seed, WIDTH, DEPTH)
    bad = hostile(model, seed)
    context = Context(scratch, calibration)

    def int8(found: Model, *steps: StepConfig) -> float:
        for step in (*steps, StaticInt8()):
            found = apply_step(found, step, context)
        return accuracy(found, test)

    exact, floats = accuracy(model, test), accuracy(bad, test)
    before, worse = int8(model), int8(bad)
    back, smooth = int8(bad, Equalize()), int8(bad, SmoothActivations())
    name = f"seed {seed}:"
    return [
        Figure(
            f"{name} float, hostile", f"{floats:.1f} %", f"{exact:.1f} as before", floats == exact
        ),
        Figure(f"{name} int8, before", f"{before:.1f} %", "(to compare)", True),
        Figure(f"{name} int8, hostile", f"{worse:.1f} %", "loses >= 5 points", worse <= floats - 5),
        Figure(
            f"{name} ... equalized", f"{back:.1f} %", "within 0.3 of float", back > floats - 0.35
        ),
        Figure(f"{name} ... smoothed", f"{smooth:.1f} %", "(to compare)", True),
    ]


def main() -> int:
    """Run all; 0 where the claims hold."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        return report([line for seed in SEEDS for line in measure(seed, Path(scratch))])


if __name__ == "__main__":
    sys.exit(main())
