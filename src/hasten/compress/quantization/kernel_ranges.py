"""Ranges at which integer kernels compute what the graph says, whatever was observed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.quantization.calibration import Range

if TYPE_CHECKING:
    import onnx

__all__ = ["ranges_of_kernels"]

#: A sigmoid or tanh that reaches this is rounded in the steps of the kernels that know no other.
_HALF = 0.5


def ranges_of_kernels(
    graph: onnx.ModelProto, ranges: Mapping[str, Range], activations: str
) -> dict[str, Range]:
    """Return the ranges, by tensor, of those that kernels write in steps of their own.

    TFLite's kernels write softmax and sigmoid in steps of 1/256, tanh of 1/128, and have another
    scale made of that, which is rounding twice. A sigmoid or tanh that stays within half of its
    range keeps its own: it would lose more. ONNX Runtime's softmax takes the whole part of the
    scale's reciprocal, so that 0 to 1 comes out as 254 steps; where it is signed, steps of 1/256
    would wrap around at a probability of 1, and it gets 255 steps, of a hair less than 1/255.
    Activations of 16 bits (``s16``) are written as they were observed.
    """
    if activations == "s16":
        return {}
    below_one = float(np.nextafter(np.float32(1), np.float32(0)))
    known = {
        "Softmax": Range(0.0, 255 / 256 if activations == "u8" else below_one),
        "Sigmoid": Range(0.0, 255 / 256),
        "Tanh": Range(-1.0, 127 / 128),
    }
    made = {node.output[0]: node.op_type for node in graph.graph.node if node.op_type in known}
    return {
        name: known[kind]
        for name, kind in made.items()
        if name in ranges and (kind == "Softmax" or _peak(ranges[name]) >= _HALF)
    }


def _peak(found: Range) -> float:
    return max(-found.low, found.high)
