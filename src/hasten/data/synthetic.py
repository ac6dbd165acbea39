"""Random data for a model that came without any: enough to time it, not to judge it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import ModelError
from hasten.graph import Signature, TensorSpec, numpy_dtype

__all__ = ["draw_inputs"]

#: All samples together; drawn as floats.
_MOST_BYTES, _BYTES = 256 * 2**20, 4


def draw_inputs(signature: Signature, count: int, seed: int) -> dict[str, NDArray[Any]]:
    """Draw ``count`` samples for every input, each input from a random stream of its own.

    Floats are normal(0, 1), integers 0 or 1 (valid as token ids, indices and masks alike), bools
    even, uint8 0..255. Raises ModelError for a dimension other than the batch that is free.
    """
    sizes = {spec.batch for spec in signature.inputs} - {None}
    with_batch_axis = len(sizes) > 1
    count = _fitting(signature, count, with_batch_axis)
    return {
        spec.name: _draw(spec, _shape(spec, count, with_batch_axis), [seed, index])
        for index, spec in enumerate(signature.inputs)
    }


def _fitting(signature: Signature, count: int, with_batch_axis: bool) -> int:
    """Return how many samples are drawn: fewer than ``count`` where they are large.

    Raises ModelError where one alone is too large to be made up.
    """
    one_bytes = sum(
        math.prod(_shape(spec, 1, with_batch_axis)) * _BYTES for spec in signature.inputs
    )
    if one_bytes > _MOST_BYTES:
        raise ModelError(
            expected=f"inputs of at most {_MOST_BYTES // 2**20} MB to be made up",
            got=", ".join(str(spec) for spec in signature.inputs)[:200],
            where="synthetic data",
            hint="give --data",
        )
    # What the batch fixes has to come out whole.
    fixed = signature.batch or 1
    most = _MOST_BYTES // max(1, one_bytes)
    return min(count, max(fixed, most))


def _shape(spec: TensorSpec, count: int, with_batch_axis: bool) -> tuple[int, ...]:
    """Items get their own batch axis where inputs disagree about the size of the batch."""
    batch = (spec.batch or 1,) if with_batch_axis and spec.shape else ()
    item: list[int] = []
    for axis, dim in enumerate(spec.shape[1:], start=1):
        if dim is None:
            raise ModelError(
                expected=f"a size for dimension {axis}",
                got=spec.layout,
                where=f"input '{spec.name}'",
                hint="give --data or --input name=dtype[...]",
            )
        item.append(dim)
    return (count, *batch, *item)


def _draw(spec: TensorSpec, shape: tuple[int, ...], seed: list[int]) -> NDArray[Any]:
    random = np.random.default_rng(seed)
    try:
        dtype = numpy_dtype(spec.dtype)
    except TypeError:
        raise ModelError(
            expected="inputs of numbers", got=str(spec), where="synthetic data", hint="give --data"
        ) from None
    if dtype == np.uint8:
        return random.integers(0, 256, shape, dtype=np.uint8)
    if dtype.kind in "biu":
        return random.integers(0, 2, shape, dtype=np.uint8).astype(dtype)
    return random.standard_normal(shape, dtype=np.float32).astype(dtype)
