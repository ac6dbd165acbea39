"""What comparing one output by its kind needs, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Output
from hasten.data.fidelity.variation import Variation
from hasten.data.meaning import Meaning

__all__ = ["Case", "Comparison", "Floats", "by_mean"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """One output against the reference's.

    ``scores`` are the reference's scores of these boxes and ``own_scores`` the other model's, where
    an output of their own holds them.
    """

    meaning: Meaning
    output: Output
    reference: Output
    variation: Variation | None = None
    scores: Output | None = None
    own_scores: Output | None = None


class Comparison(NamedTuple):
    """How much of the reference is kept, from 0 to 1: over all, and of each sample."""

    figure: float
    samples: Floats


#: Compares an output by what it means.
Comparer = Callable[[Case], Comparison]


def by_mean(samples: Floats) -> Comparison:
    """Return the mean over samples as the figure."""
    return Comparison(float(samples.mean()) if samples.size else 1.0, samples)
