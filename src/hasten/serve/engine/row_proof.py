"""Whether requests may share a batch: proven from the graph, and by running rows beside others.

A free first axis need not be a batch. A model whose rows depend on one another, through a mean over
all, a sum over those before or a scale that is taken of the whole tensor, would answer each client
with a mixture of what all of them sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hasten.errors import RuntimeFailureError
from hasten.graph.rows import RowVerdict

if TYPE_CHECKING:
    from hasten.graph import Signature
    from hasten.runtimes import Arrays
    from hasten.serve.engine.made_up import MadeUp

__all__ = ["prove_rows"]

#: Rows that are run together, and seeds and scales of the rows beside one: others, and far larger
#: ones, which a scale or a maximum that is taken over all shows.
_ROWS = 3
_BESIDE = ((1, 1.0), (2, 1000.0), (3, 1e-3))
#: Beside other rows an answer comes from the same kernels, so it differs in nothing; alone it may
#: come from others, and differ by rounding, of int8 by a few steps.
_BESIDE_OTHERS, _ALONE = 1e-5, 0.05

Run = Callable[["Arrays"], "Arrays"]


def prove_rows(run: Run, signature: Signature, way: MadeUp | None, graph: RowVerdict) -> RowVerdict:
    """Return whether rows are independent, where the first axis of all tensors is free.

    What the graph says is checked by running it, and where it says nothing, running it decides:
    the answer for a row must be the same beside others of any values, and the same alone. ``way``
    makes inputs that the model takes, None where none are known.
    """
    if graph.rows == "mixed":
        return graph
    if way is None:
        return graph
    try:
        found = _interference(run, signature, way)
    except RuntimeFailureError as error:
        return graph if graph.rows == "independent" else RowVerdict("unclear", why=str(error))
    if found:
        return RowVerdict("mixed", why=found)
    return RowVerdict("independent")


def _interference(run: Run, signature: Signature, way: MadeUp) -> str:
    """Say how rows act on one another; empty where they do not.

    One row is run in each place: what is summed up from row to row shows in the last alone.
    """
    own = way.feed(signature, 1)
    alone = run(own)
    for place in range(_ROWS):
        beside = [
            run(_among(own, place, way.feed(signature, _ROWS - 1, seed, scale)))
            for seed, scale in _BESIDE
        ]
        for name, value in alone.items():
            found = _difference(value, [answer[name] for answer in beside], place)
            if found:
                return f"output {name} {found}"
    return ""


def _difference(alone: np.ndarray, beside: Sequence[np.ndarray], place: int) -> str:
    """Compare what was answered for one row, alone and in this place beside others."""
    if alone.shape[:1] != (1,) or any(one.shape[:1] != (_ROWS,) for one in beside):
        return "has another number of rows than the inputs"
    first, *others = (one[place : place + 1] for one in beside)
    if any(_apart(first, other) > _BESIDE_OTHERS for other in others):
        return "of a row depends on the rows beside it"
    return "of a row is another alone than beside others" if _apart(alone, first) > _ALONE else ""


def _among(own: Arrays, place: int, others: Arrays) -> Arrays:
    return {
        name: np.concatenate([others[name][:place], value, others[name][place:]])
        for name, value in own.items()
    }


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference as a share of the largest magnitude; 0 for the same."""
    if one.shape != other.shape:
        return float("inf")
    if one.dtype.kind not in "fV":
        return 0.0 if np.array_equal(one, other) else _steps(one, other)
    left, right = one.astype(np.float64), other.astype(np.float64)
    both = np.isfinite(left) & np.isfinite(right)
    if not np.array_equal(left[~both], right[~both], equal_nan=True):
        return float("inf")
    magnitude = max(np.abs(left[both]).max(initial=0.0), np.abs(right[both]).max(initial=0.0))
    if not magnitude:
        return 0.0
    return float(np.abs(left[both] - right[both]).max(initial=0.0) / magnitude)


def _steps(one: np.ndarray, other: np.ndarray) -> float:
    """Compare integers as shares of what they span; texts and classes are the same or not."""
    if one.dtype.kind not in "iu" or one.dtype.itemsize > 1:
        return float("inf")
    return float(np.abs(one.astype(np.float64) - other).max() / 255)
