"""A runtime, a model that it takes and the outputs that it must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hasten.graph import Model
from hasten.runtimes import Arrays, Execution, Session, get_runtime
from hasten.runtimes.runtime import Hint

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Subject:
    """A runtime, a model that it takes, and what must come out of it."""

    runtime: str
    model: Model
    expected: Callable[[Arrays], Arrays]

    def feed(self, batch: int, seed: int = 0) -> Arrays:
        random = np.random.default_rng(seed)
        shapes = {
            spec.name: (batch, *(dim or 1 for dim in spec.shape[1:]))
            for spec in self.model.signature.inputs
        }
        return {
            name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
        }

    def open(self, folder: Path, threads: int = 1) -> Session:
        runtime = get_runtime(self.runtime)
        # What OpenVINO does by default is bf16 where the processor has it.
        hint: Hint = "f32" if "f32" in runtime.probe().hints else "default"
        lowered = runtime.lower(self.model, folder)
        return runtime.open(lowered, Execution(threads=threads, hint=hint))


def assert_equal(found: Arrays, expected: Arrays, tolerance: float = TOLERANCE) -> None:
    assert list(found) == list(expected)
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=tolerance, atol=tolerance)
