"""How far from halfway between two levels a runtime may still round either way.

In exact arithmetic only a number halfway between two levels is a tie. Sums in float32 come out
differently in another order, and some kernels of LiteRT compute in integers of few bits. What is
allowed here is what their arithmetic makes possible, and for no other operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hasten.graph import constants_of
from hasten.runtimes.litert.lowering.quantization import PASSING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

__all__ = ["TIE", "Rounding"]

#: Sums in float32 in another order, in steps.
TIE = 0.02
#: Integers that go from one scale to another are multiplied by the ratio of both, which XNNPACK
#: rounds to 8 bits behind the point: an integer that is n from its zero point ends up to n / 512
#: steps from where it should. n is never more than 255.
_OF_RATIO, _FARTHEST = 2.0**-9, 255.0
#: Operators that move elements or pick among them, and change nothing but the scale.
_MOVING = (PASSING | {"Concat", "Where"}) - {"Relu"}
#: Which of their operands are moved, where it is not the first alone.
_MOVED = {"Concat": slice(None), "Where": slice(1, None)}
#: Operators whose own kernels round more, in steps. TFLite's multiply by a ratio below a half in
#: fixed point, and round twice: to a half, a quarter and so on of a step first. LeakyRelu's slopes
#: are ratios of 8 bits, and bilinear coordinates have 10 bits, for each of two axes.
_TWICE = TIE + 0.25
_LITERT = {
    "LeakyRelu": TIE + _FARTHEST * _OF_RATIO,
    "PRelu": _TWICE,
    "Relu": _TWICE,
    "Resize": TIE + 2 * _FARTHEST * 2.0**-11,
}


@dataclass(eq=False)
class Rounding:
    """The ties of a quantized graph's tensors on a runtime; ``scales`` are those of integers."""

    graph: onnx.ModelProto
    runtime: str
    scales: Mapping[str, float]

    def __post_init__(self) -> None:
        self._makers = {name: node for node in self.graph.graph.node for name in node.output}
        self._known = set(constants_of(self.graph.graph))

    def ties(self, name: str, from_zero_point: np.ndarray) -> np.ndarray | float:
        """Return the ties of a tensor of integers, in steps beyond halfway.

        ``from_zero_point`` says how far each value is from its zero point, in steps of its own.
        """
        if self.runtime != "litert" or name not in self._makers:
            return TIE
        read = self._makers[name].input[0]
        scales = self._moved_from(read)
        if scales:
            before = np.abs(from_zero_point) * self.scales[name] / min(scales)
            far: np.ndarray = TIE + np.minimum(before, _FARTHEST) * _OF_RATIO
            return far
        maker = self._makers.get(read)
        return TIE if maker is None else _LITERT.get(maker.op_type, TIE)

    def _moved_from(self, name: str) -> set[float]:
        """Return the scales that a tensor's elements had; none where it is not moved alone."""
        node = self._makers.get(name)
        if node is None:
            return set()
        if node.op_type == "DequantizeLinear":
            scale = self.scales.get(node.input[0])
            return set() if scale is None else {scale}
        if node.op_type not in _MOVING:
            return set()
        operands = node.input[_MOVED.get(node.op_type, slice(1))]
        each = [self._moved_from(one) for one in operands if one not in self._known]
        return set().union(*each) if all(each) else set()
