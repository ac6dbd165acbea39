"""Minibatches: samples in a new order every epoch, the same for one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data import Samples
from hasten.graph import Signature
from hasten.train.augmentation import augmented
from hasten.train.schedule import Schedule

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True)
class Batch:
    """A part of a minibatch that the graph takes at once: ``share`` is its part of the whole.

    ``indices`` are those of its samples.
    """

    feed: dict[str, NDArray[Any]]
    indices: NDArray[np.int64]
    share: float


class Batches:
    """The minibatches of a training, each as the parts that a graph of fixed batch takes."""

    def __init__(self, samples: Samples, signature: Signature, schedule: Schedule) -> None:
        self._samples = samples
        self._signature = signature
        self._schedule = schedule
        self._part = samples.per_feed(signature) or schedule.batch
        whole = max(schedule.batch // self._part, 1) * self._part
        #: Samples of a minibatch; the last ones of an epoch are left out where they fill no part.
        self.size = min(whole, max(len(samples) // self._part, 1) * self._part)
        self.count = max(len(samples) // self.size, 1)

    def epoch(self, epoch: int) -> Iterator[list[Batch]]:
        """Yield the minibatches of an epoch."""
        random = np.random.default_rng([self._schedule.seed, epoch])
        order = random.permutation(len(self._samples))
        for start in range(0, self.count * self.size, self.size):
            chosen = np.resize(order, self.count * self.size)[start : start + self.size]
            parts = [chosen[at : at + self._part] for at in range(0, len(chosen), self._part)]
            yield [self._batch(part, len(part) / len(chosen), random) for part in parts]

    def _batch(
        self, indices: NDArray[np.int64], share: float, random: np.random.Generator
    ) -> Batch:
        feed = self._samples.feed(self._signature, indices)
        feed = augmented(feed, self._signature, self._schedule.augment, random)
        return Batch(feed, indices, share)
