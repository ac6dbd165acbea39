"""What a student gains by a teacher's answers over labels alone, and where it gains nothing.

Run: ``python benchmarks/distillation.py | tee benchmarks/distillation.txt``. Five seeds, each with
digits held out of its own, a teacher and students of its own. Exits 1 unless both students for
which it is claimed gain 1 point or more in the mean over the seeds.

Both ways have the same initial weights, images, views of them, order, epochs and learning rate. All
they differ in is the loss: ``Finetune`` takes the cross entropy against labels, ``Distill`` the
divergence from the teacher at temperature 4, and no labels. The teacher learnt from all 4,000
digits, shifted by up to three pixels. Settings were chosen on seeds 0 and 1, which are not here.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from digits import SIDE, accuracy, digits, network
from figures import Figure, report
from hasten.compress import Context, Distill, Finetune, apply_step
from hasten.data import Samples
from hasten.graph import Model, export_torch, parse_input

SEEDS = (2, 3, 4, 5, 6)
#: Student's t for five seeds and 95 %.
STUDENT_T = 2.776
MOST_PARAMETERS = 300_000
TEMPERATURE = 4.0


def convolutional() -> nn.Module:
    """Two convolutions of 4 and 8 channels."""
    layers = [*normed(1, 4, size=5, stride=2), *normed(4, 8, size=5, stride=2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 49, 10))


def perceptron() -> nn.Module:
    """One hidden layer of 64, which knows nothing of images."""
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 64), nn.ReLU(), nn.Linear(64, 10))


def teaching() -> nn.Module:
    """Four convolutions of 16 to 64 channels."""
    layers = [*normed(1, 16, stride=2), *normed(16, 32), *normed(32, 64, stride=2), *normed(64, 64)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def normed(taken: int, made: int, *, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution with its batch norm and ReLU."""
    conv = nn.Conv2d(taken, made, size, stride, size // 2, bias=False)
    return [conv, nn.BatchNorm2d(made), nn.ReLU()]


@dataclass(frozen=True)
class Case:
    """A student, the digits it learns from, and its schedule, the same for both ways."""

    name: str
    build: Callable[[], nn.Module]
    images: int
    schedule: dict[str, Any]
    claimed: bool = False


CASES = (
    Case(
        "perceptron, 4,000 digits",
        perceptron,
        4000,
        {"epochs": 40, "batch": 64, "learning_rate": 3e-3},
        claimed=True,
    ),
    Case(
        "convolutional, 500 digits",
        convolutional,
        500,
        {"epochs": 60, "batch": 32, "learning_rate": 1e-2},
        claimed=True,
    ),
    Case(
        "convolutional, 500 digits shifted",
        convolutional,
        500,
        {"epochs": 60, "batch": 32, "learning_rate": 1e-2, "augment": ("shift",)},
    ),
    Case(
        "convolutional, 4,000 digits",
        convolutional,
        4000,
        {"epochs": 30, "batch": 64, "learning_rate": 1e-2},
    ),
    Case(
        "depthwise, 4,000 digits shifted",
        lambda: network(6, 4),
        4000,
        {"epochs": 8, "batch": 64, "learning_rate": 1e-2, "augment": ("shift",)},
    ),
)


def taught(seed: int, samples: Samples, scratch: Path) -> Model:
    """The teacher, which has learnt from labels."""
    config = Finetune(
        epochs=15,
        batch=64,
        learning_rate=5e-3,
        weight_decay=1e-2,
        augment=("shift",),
        held_out=0.0,
        seed=seed,
    )
    return apply_step(graph(teaching(), scratch), config, Context(scratch, training=samples))


def graph(module: nn.Module, scratch: Path) -> Model:
    """The untrained module as a graph that can learn."""
    inputs = [parse_input(f"image=float32[batch,1,{SIDE},{SIDE}]")]
    return export_torch(module, inputs, name="digits", scratch=scratch, keep_batch_norms=True)


def gains(seed: int, scratch: Path) -> list[float]:
    """Train the teacher, and each student both ways; points gained by the teacher's answers."""
    torch.manual_seed(seed)
    train, test = digits(seed)
    samples, start = Samples({"image": train.images}, train.labels), time.perf_counter()
    teacher = taught(seed, samples, scratch)
    print(f"seed {seed}: teacher {accuracy(teacher, test):.1f} %", flush=True)
    found = []
    for case in CASES:
        few = samples.select(range(case.images))
        student = graph(case.build(), scratch)
        schedule = {**case.schedule, "held_out": 0.0, "seed": seed}
        labelled = apply_step(student, Finetune(**schedule), Context(scratch, training=few))
        distilled = apply_step(
            student,
            Distill(temperature=TEMPERATURE, **schedule),
            Context(scratch, training=few, teacher=teacher),
        )
        with_labels, with_teacher = accuracy(labelled, test), accuracy(distilled, test)
        print(
            f"  {case.name}: labels {with_labels:.1f} %, teacher {with_teacher:.1f} %", flush=True
        )
        found.append(with_teacher - with_labels)
    print(f"  {time.perf_counter() - start:.0f} s", flush=True)
    return found


def line(case: Case, gained: Sequence[float]) -> Figure:
    """The mean gain of a student with its 95 % interval over the seeds."""
    mean = float(np.mean(gained))
    half = STUDENT_T * float(np.std(gained, ddof=1)) / len(gained) ** 0.5
    figure = f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}] points"
    target = ">= 1" if case.claimed else "(to compare)"
    return Figure(case.name, figure, target, not case.claimed or mean >= 1)


def main() -> int:
    """Run all; 0 where the claims hold."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        seeds = [gains(seed, Path(scratch)) for seed in SEEDS]
    lines = [
        line(case, gained) for case, gained in zip(CASES, zip(*seeds, strict=True), strict=True)
    ]
    for case in CASES:
        count = sum(weight.numel() for weight in case.build().parameters())
        fits = count <= MOST_PARAMETERS
        lines.append(Figure(f"{case.name}: parameters", f"{count:,}", "<= 300,000", fits))
    return report(lines)


if __name__ == "__main__":
    sys.exit(main())
