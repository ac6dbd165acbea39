"""Small signatures and arrays, for tests of what is fed to a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.graph import Signature, TensorSpec


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs, (TensorSpec("y", "float32", (None, 2)),))


def tensor(*shape: int | None, dtype: str = "float32", name: str = "x") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


def floats(*shape: int) -> NDArray[Any]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
