"""What is written to a .tflite: tensors and operators in execution order, in TFLite's own terms.

Shapes here are as stored: where a tensor holds an image its axes are batch, height, width and
channels, whatever order the ONNX graph had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Operator", "Program", "Quantization", "Tensor"]


@dataclass(frozen=True, eq=False)
class Quantization:
    """``real = scale * (stored - zero_point)``; one scale, or one for each index of ``axis``."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0

    @classmethod
    def of(cls, scale: float, zero_point: int) -> Quantization:
        """One scale for the whole tensor."""
        return cls(np.array([scale], np.float32), np.array([zero_point], np.int64))

    @property
    def per_tensor(self) -> bool:
        """Whether one scale holds for all."""
        return self.scale.size == 1

    def same(self, other: Quantization | None) -> bool:
        """Whether both map stored values to the same real ones."""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.per_tensor or self.axis == other.axis)
        )

    def on_axis(self, axis: int) -> Quantization:
        """The same scales along another axis: for a tensor that was transposed."""
        return Quantization(self.scale, self.zero_point, axis)


@dataclass(eq=False)
class Tensor:
    """A tensor as it is stored: ``data`` is set where it is constant."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    quantization: Quantization | None = None
    #: Where axes stay free: the shape with -1 for each of them.
    signature: tuple[int, ...] | None = None

    @property
    def elements(self) -> np.ndarray:
        """The data of a constant; ValueError for a tensor that is computed."""
        if self.data is None:
            raise ValueError(f"{self.name} is not constant")
        return self.data

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(eq=False)
class Operator:
    """One builtin operator, such as ``CONV_2D``; ``options`` are the fields of its options table.

    ``source`` is the ONNX node that it was made for.
    """

    kind: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(eq=False)
class Program:
    """A whole model: inputs and outputs carry the names of the ONNX graph."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    operators: list[Operator]
    notes: list[str] = field(default_factory=list)

    def tensors(self) -> list[Tensor]:
        """Every tensor once, in the order of first use."""
        seen: dict[int, Tensor] = {id(tensor): tensor for tensor in self.inputs}
        for operator in self.operators:
            for tensor in (*operator.inputs, *operator.outputs):
                if tensor is not None:
                    seen.setdefault(id(tensor), tensor)
        for tensor in self.outputs:
            seen.setdefault(id(tensor), tensor)
        return list(seen.values())
