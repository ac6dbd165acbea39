"""The demo's model and images for benchmarks: built once into the cache, then read from there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hasten.data import Samples, load_samples
from hasten.demo.build import HELD_OUT, PREPROCESSING, TRAINING, build_demo
from hasten.graph import Model, load, parse_input
from hasten.progress import Quiet

__all__ = ["Solar", "solar"]


class Solar(NamedTuple):
    """The graph without its PyTorch origin, samples to calibrate with, and held-out ones."""

    model: Model
    calibration: Samples
    held_out: Samples


def solar(scratch: Path, *, calibration: int | None = 128, held_out: int | None = None) -> Solar:
    """Export the demo's network and read its images."""
    folder = build_demo(Quiet())
    inputs = [parse_input("image=float32[batch,3,224,224]")]
    exported = load("hasten.demo.network:lite0", inputs=inputs, scratch=scratch)
    model = Model("lite0", exported.content, exported.signature)
    read = {
        name: load_samples(
            folder / name,
            model.signature,
            preprocessing=PREPROCESSING,
            scratch=scratch / name,
            at_most=count,
        )
        for name, count in ((TRAINING, calibration), (HELD_OUT, held_out))
    }
    return Solar(model, read[TRAINING], read[HELD_OUT])
