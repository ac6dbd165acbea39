"""Where numbers stop being numbers: the first NaN or infinity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["can_be_nonfinite", "first_nonfinite", "nonfinite_row"]


def can_be_nonfinite(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is a floating one, bfloat16 and its kin included."""
    return dtype.kind not in "biuSU"


def nonfinite_row(array: NDArray[Any]) -> tuple[int, str] | None:
    """Return the first row (index on axis 0) that is not finite, and what it holds.

    >>> nonfinite_row(np.array([[1.0, 2.0], [np.inf, 0.0]]))
    (1, 'infinity')
    """
    if not can_be_nonfinite(array.dtype):
        return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    rows = finite.reshape(len(finite), -1) if finite.ndim else finite.reshape(1, 1)
    row = int(np.argmin(rows.all(axis=1)))
    has_nan = bool(np.isnan(array[row] if array.ndim else array).any())
    return row, "NaN" if has_nan else "infinity"


def first_nonfinite(outputs: Mapping[str, NDArray[Any]], start: int = 0) -> str | None:
    """Say which output holds NaN or infinity, and at which sample; None where all is finite.

    The first row is sample ``start``.

    >>> first_nonfinite({"logits": np.array([[0.5], [np.nan]])})
    "output 'logits' sample 1 holds NaN"
    """
    for name, array in outputs.items():
        found = nonfinite_row(array)
        if found is not None:
            return f"output '{name}' sample {start + found[0]} holds {found[1]}"
    return None
