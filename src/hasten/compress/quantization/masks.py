"""Values that only say "not this one": masks that are added before a softmax, and infinities.

Whatever is written for them, ``-inf``, float32's least, -1e4 or -100, a softmax makes zero of it. A
range that held them would leave no level to tell the other scores apart, and one that does not hold
them would turn "not this one" into "least of all". So what holds them is not quantized.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hasten.graph import constant_arrays

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from hasten.compress.activations.histogram import Histogram

__all__ = ["before_softmax", "holds_masks", "masked_tensors"]

#: What exponentiates: whatever lies far below the rest becomes zero.
_SOFTMAXES = frozenset({"Softmax", "LogSoftmax", "Exp"})
#: Operators that hand mask values on, as they are or scaled.
_PASSING = frozenset(
    {
        *(
            "Add",
            "Cast",
            "Concat",
            "Div",
            "Expand",
            "Flatten",
            "Gather",
            "GatherElements",
            "Identity",
        ),
        *("Max", "Min", "Mul", "Neg", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Sub", "Tile"),
        *("Transpose", "Unsqueeze", "Where"),
    }
)
#: An addend below this is a mask: ``exp(-50)`` is less than float32 tells apart from nothing.
_LEAST_ADDEND = -50.0
#: A factor beyond this makes a mask of zeros and ones; scores are multiplied by 100 at most.
_LARGEST_FACTOR = 1e3
#: Before a softmax, values this far below all others are masked: ``exp(-20)`` is 2e-9.
_APART = 20.0
#: Elsewhere masks are what lies this far from zero, and far from everything else.
_FAR = -1e3
#: A gap counts where it is so many times as wide as all that lies above it.
_TIMES_BEFORE_SOFTMAX, _TIMES = 2.0, 8.0


def masked_tensors(graph: onnx.ModelProto) -> frozenset[str]:
    """Return the tensors that hold mask values for some input, as the constants of the graph tell.

    They lead from a constant that masks, through what hands its values on, to a softmax; constants
    are among them.
    """
    tail = before_softmax(graph)
    arrays = {
        name: array
        for name, array in constant_arrays(graph.graph).items()
        if array.dtype == np.float32
    }
    masked = {name for name, array in arrays.items() if not np.isfinite(array).all()}
    for node in graph.graph.node:
        if node.op_type not in _PASSING or tail.isdisjoint(node.output):
            continue
        if any(name in masked for name in node.input) or _masks(node, arrays):
            masked.update(node.output)
            masked.update(name for name in node.input if _is_mask(arrays.get(name)))
    return frozenset(masked & tail)


def before_softmax(graph: onnx.ModelProto) -> frozenset[str]:
    """Return what a softmax reads, and what only passed on values lead from to there."""
    found: set[str] = set()
    for node in reversed(graph.graph.node):
        passes = node.op_type in _PASSING and not found.isdisjoint(node.output)
        if passes or node.op_type in _SOFTMAXES:
            found.update(name for name in node.input if name)
    return frozenset(found)


def holds_masks(histogram: Histogram, *, reaches_softmax: bool) -> bool:
    """Whether a tensor was seen to hold infinities, or values far below all others.

    The others are told from them by a gap, so it does not matter how a mask is written.
    """
    if histogram.infinite:
        return True
    below, above = _gaps(histogram)
    width, span = above - below, histogram.high - above
    if reaches_softmax:
        return bool((width >= np.maximum(_APART, _TIMES_BEFORE_SOFTMAX * span)).any())
    return bool(((width >= _TIMES * span) & (below <= _FAR)).any())


def _gaps(histogram: Histogram) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The lower and upper edges of the runs of empty bins that begin below zero."""
    used = np.flatnonzero(histogram.counts)
    before = np.flatnonzero((used[:-1] < histogram.bins) & (np.diff(used) > 1))
    below = (used[before] + 1 - histogram.bins) * histogram.width
    above = (used[before + 1] - histogram.bins) * histogram.width
    return np.asarray(below, np.float64), np.minimum(above, histogram.high, dtype=np.float64)


def _masks(node: onnx.NodeProto, arrays: Mapping[str, npt.NDArray[np.floating]]) -> bool:
    """Whether a node makes mask values with one of its constants."""
    read = [arrays.get(name) for name in node.input]
    if node.op_type in {"Add", "Where", "Concat", "Pad"}:
        return any(_is_mask(array) for array in read)
    if node.op_type == "Sub":
        return _reaches(read[1:], -_LEAST_ADDEND) or _is_mask(read[0])
    if node.op_type == "Mul":
        return _reaches(read, _LARGEST_FACTOR)
    if node.op_type == "Div" and read[1] is not None:
        with np.errstate(divide="ignore"):
            return _reaches([np.reciprocal(read[1])], _LARGEST_FACTOR)
    return False


def _is_mask(array: npt.NDArray[np.floating] | None) -> bool:
    return array is not None and array.size > 0 and float(array.min()) <= _LEAST_ADDEND


def _reaches(arrays: Iterable[npt.NDArray[np.float32] | None], size: float) -> bool:
    return any(
        array is not None and array.size > 0 and float(np.abs(array).max()) >= size
        for array in arrays
    )
