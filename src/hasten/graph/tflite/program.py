"""A TensorFlow Lite model as it was read: tensors, and operators in the order they run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hasten.graph.tflite.refusal import Damaged

__all__ = ["Operator", "Program", "Quantization", "Tensor"]


@dataclass(frozen=True, eq=False)
class Quantization:
    """``real = scale * (stored - zero_point)``, once for all or for each index of ``axis``."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 0

    @property
    def per_tensor(self) -> bool:
        """Whether there is one scale for all."""
        return self.scale.size == 1


@dataclass(eq=False)
class Tensor:
    """One tensor. ``declared`` has None where ``shape_signature`` says that an axis is free.

    ``data`` are the elements of a constant as they are stored; ``trouble`` is why it cannot be
    imported, where that is so.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    declared: tuple[int | None, ...]
    data: np.ndarray | None = None
    quantization: Quantization | None = None
    trouble: str = ""

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements, where each free axis has its size in the file."""
        return math.prod(self.shape)


@dataclass(eq=False)
class Operator:
    """One operator; an input is -1 where it is left out.

    ``kind`` is the name in the schema's ``BuiltinOperator``. ``options`` is its table of options in
    the schema's own reading, None where the file has none.
    """

    position: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None
    custom_code: str = ""

    def option(self, name: str, default: Any = None) -> Any:
        """An option by its name in the schema; ``default`` where the file has no options."""
        if self.options is None:
            if default is None:
                raise Damaged(f"operator {self.position} ({self.kind}) without options")
            return default
        read: Callable[[], Any] | None = getattr(self.options, name, None)
        if read is None:
            table = type(self.options).__name__
            raise Damaged(f"operator {self.position} ({self.kind}) with {table}")
        return read()

    def input(self, at: int) -> int:
        """The tensor that an input is; -1 where it is left out."""
        return self.inputs[at] if at < len(self.inputs) else -1


@dataclass(eq=False)
class Program:
    """What one file computes: inputs and outputs are indices of tensors."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    notes: list[str] = field(default_factory=list)
