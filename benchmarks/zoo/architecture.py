"""What an architecture of the zoo is: how it is built, and what its samples look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Architecture", "Arrays", "Draw"]

#: By name of the argument of ``forward``; the sample is the first axis.
Arrays = dict[str, NDArray[Any]]
#: Draws so many samples.
Draw = Callable[[np.random.Generator, int], Arrays]


@dataclass(frozen=True)
class Architecture:
    """One network: ``build`` makes it with random weights, ``draw`` makes samples for it.

    ``package`` is who wrote it, ``gives`` what its outputs are.
    """

    name: str
    package: str
    gives: str
    build: Callable[[], nn.Module]
    draw: Draw
