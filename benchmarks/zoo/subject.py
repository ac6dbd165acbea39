"""One architecture ready to be measured: the module, its samples and its graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import hasten
from hasten.errors import ModelError
from zoo.architecture import Architecture, Arrays
from zoo.torchvision_models import define_operators
from zoo.weights import draw_idle, re_estimate_batch_norms

if TYPE_CHECKING:
    from hasten import InputSpec, Model, Samples

__all__ = ["SEED", "Subject"]

SEED = 0
_TRAINING, _CALIBRATION, _HELD_OUT = 32, 64, 32
_BATCH = 16


@dataclass(eq=False)
class Subject:
    """Weights and samples are the same in every process, by one seed.

    ``training``, ``calibration`` and ``held_out`` are different samples. ``fixed`` says that the
    architecture exports for a batch of 1 alone: it is asked for a free one first.
    """

    architecture: Architecture
    scratch: Path
    training: Arrays
    calibration: Arrays
    held_out: Arrays
    module: torch.nn.Module
    fixed: bool = False
    _graphs: dict[bool, Model] = field(default_factory=dict)

    @classmethod
    def of(cls, architecture: Architecture, scratch: Path) -> Subject:
        """Build the module, and give its batch norms the statistics of training samples."""
        define_operators()
        torch.manual_seed(SEED)
        module = architecture.build().eval()
        draw_idle(module, SEED)
        training, calibration, held_out = (
            architecture.draw(np.random.default_rng([SEED, at]), count)
            for at, count in enumerate((_TRAINING, _CALIBRATION, _HELD_OUT))
        )
        re_estimate_batch_norms(module, [*_batches(training), *_batches(calibration)])
        return cls(architecture, scratch, training, calibration, held_out, module)

    def load(self, *, keep_batch_norms: bool = False) -> Model:
        """Export the module, once for each of the two, for a free batch where it can be."""
        if keep_batch_norms not in self._graphs:
            self._graphs[keep_batch_norms] = self._load(keep_batch_norms)
        return self._graphs[keep_batch_norms]

    def _load(self, keep_batch_norms: bool) -> Model:
        from hasten.api import load

        if not self.fixed:
            example = {name: torch.from_numpy(value[:2]) for name, value in self.training.items()}
            try:
                return load(
                    self.module,
                    example,
                    scratch=self.scratch,
                    keep_batch_norms=keep_batch_norms,
                )
            except ModelError:
                self.fixed = True  # its hint: give the dimensions as numbers
        return load(
            self.module,
            inputs=self._fixed_inputs,
            scratch=self.scratch,
            keep_batch_norms=keep_batch_norms,
        )

    @property
    def _fixed_inputs(self) -> list[InputSpec]:
        return [
            hasten.InputSpec(name, value.dtype.name, (1, *value.shape[1:]))
            for name, value in self.training.items()
        ]

    @property
    def calibration_samples(self) -> Samples:
        """The calibration samples as Hasten takes them."""
        return hasten.Samples(self.calibration, source="calibration")

    @property
    def held_out_samples(self) -> Samples:
        """The held-out samples as Hasten takes them."""
        return hasten.Samples(self.held_out, source="held out")

    @cached_property
    def parameters(self) -> int:
        """How many values of the module are trained in PyTorch."""
        return sum(each.numel() for each in self.module.parameters() if each.requires_grad)


def _batches(samples: Arrays) -> Iterator[dict[str, torch.Tensor]]:
    count = len(next(iter(samples.values())))
    for start in range(0, count, _BATCH):
        yield {
            name: torch.from_numpy(value[start : start + _BATCH]) for name, value in samples.items()
        }
