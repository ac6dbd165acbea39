"""What weights of 4 bits cost, and how much of it adaptive rounding and training get back.

Run: ``python benchmarks/four_bits.py | tee benchmarks/four_bits.txt``. Six seeds, each a network
of its own and digits held out of its own. Exits 1 unless, in the mean over the seeds, nearest
levels lose 2 points or more, adaptive rounding at most half of that, and training with quantization
at most a fifth, with and without corrected biases; and unless the module in training answers as its
graph does in every runtime, for 99.5 % of the held-out digits and each seed.

Activations have 8 bits throughout, ranges are min-max, and the float network is the reference. The
network is narrow on purpose: wide ones lose next to nothing on digits. Training begins with
corrected biases, sees the 4,000 digits that the float network learnt from, and halves its loss
between their labels and the float network's answers.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from digits import accuracy, digits, trained
from figures import Figure, report
from hasten.compress import Context, StaticInt8, TrainQuantized, apply_step
from hasten.compress.train_quantized import trained as trained_quantized
from hasten.data import Samples

SEEDS = range(6)
WIDTH, DEPTH = 8, 8
CONFIGS = {
    "8 bits": StaticInt8(),
    "4 bits, nearest": StaticInt8(weights="w4", bias="plain"),
    "4 bits, nearest, corrected biases": StaticInt8(weights="w4"),
    "4 bits, adaptive": StaticInt8(weights="w4", bias="plain", rounding="adaptive"),
    "4 bits, adaptive, corrected biases": StaticInt8(weights="w4", rounding="adaptive"),
}

TRAINED = "4 bits, trained"
RUNTIMES = ("onnxruntime", "openvino", "litert")


class Outcome(NamedTuple):
    """Points lost against float by each way, and agreement of module and graph by runtime."""

    lost: Mapping[str, float]
    agreement: Mapping[str, float]


def outcome(seed: int, scratch: Path) -> Outcome:
    """Train a network and quantize it in each way."""
    model, calibration, test = trained(seed, WIDTH, DEPTH)
    train, _ = digits(seed)
    learnt = Samples({"image": train.images}, train.labels)
    exact, context = accuracy(model, test), Context(scratch, calibration, training=learnt)
    lost = {
        name: exact - accuracy(apply_step(model, config, context), test)
        for name, config in CONFIGS.items()
    }
    training = trained_quantized(model, quantized_training(seed), context)
    made = training.finish()
    lost[TRAINED] = exact - accuracy(made, test)
    held_out = Samples({"image": test.images})
    agreement = {name: 100 * training.agreement(made, held_out, name) for name in RUNTIMES}
    said = ", ".join(f"{name}: {points:+.1f}" for name, points in lost.items())
    print(f"seed {seed}: float {exact:.1f} %; points lost: {said}", flush=True)
    return Outcome(lost, agreement)


def quantized_training(seed: int) -> TrainQuantized:
    """Return how the network is trained for weights of 4 bits."""
    return TrainQuantized(
        weights="w4",
        alpha=0.5,
        epochs=8,
        batch=64,
        learning_rate=1e-3,
        augment=("shift",),
        held_out=0.0,
        seed=seed,
    )


def lines(seeds: Sequence[Outcome]) -> list[Figure]:
    """Return the figures: means over the seeds, and the least agreement of any."""
    mean = {name: float(np.mean([found.lost[name] for found in seeds])) for name in seeds[0].lost}
    found = [Figure("8 bits", f"{mean['8 bits']:.1f} points lost", "(to compare)", True)]
    for more in ("", ", corrected biases"):
        nearest, adaptive = mean[f"4 bits, nearest{more}"], mean[f"4 bits, adaptive{more}"]
        back = 100 * (1 - mean[TRAINED] / nearest)
        found += [
            Figure(f"4 bits, nearest{more}", f"{nearest:.1f} points lost", ">= 2", nearest >= 2),
            Figure(
                f"4 bits, adaptive{more}",
                f"{adaptive:.1f} points lost",
                f"<= half of {nearest:.1f}",
                adaptive <= nearest / 2,
            ),
            Figure(
                TRAINED,
                f"{mean[TRAINED]:.1f} points lost",
                f">= 80 % of {nearest:.1f} back: {back:.0f} %",
                back >= 80,
            ),
        ]
    for name in RUNTIMES:
        least = min(one.agreement[name] for one in seeds)
        what = f"module and graph in {name}"
        found.append(Figure(what, f"{least:.1f} % agree", ">= 99.5, each seed", least >= 99.5))
    return found


def main() -> int:
    """Run all; 0 where the claims hold."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        return report(lines([outcome(seed, Path(scratch)) for seed in SEEDS]))


if __name__ == "__main__":
    sys.exit(main())
