"""Where samples stand in an output: the axis that grows with them, found and never assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers.runs import Parts
from hasten.errors import HastenError

__all__ = ["FIRST_AXIS", "SampleAxis", "axis_by_growth", "axis_by_rotation", "sample_axes"]

Shape = tuple[int, ...]
#: Runs these samples at once, and returns outputs by name.
RunOf = Callable[[NDArray[np.int64]], Mapping[str, NDArray[Any]]]

#: Samples that are joined into one run to see which axis of an output grows with them.
_JOINED = (2, 3)


class SampleAxis(NamedTuple):
    """The axis along which an output holds samples, and how many of its rows are one sample's.

    ``axis`` is None for an output that has none, such as a mean over all samples, or the
    detections of one image: it belongs to a run as a whole.
    """

    axis: int | None
    rows: int = 1


FIRST_AXIS = SampleAxis(0)


def sample_axes(
    known: Mapping[str, Parts],
    run: RunOf,
    *,
    samples: int,
    fixed: int | None = None,
    rows: int = 1,
) -> dict[str, SampleAxis]:
    """Find the axis of each output from runs that are known, and a few more.

    ``known`` are outputs of runs of one sample each, or of the first ``fixed`` samples where the
    model takes no other number; there are ``samples`` in all, each of ``rows``. Where samples
    cannot be joined, the runs of one have to tell.
    """
    if fixed is None or fixed == 1:
        joined = _joined(run, samples) if fixed is None else {}
        return {
            name: axis_by_growth(
                [value.shape for value in raw],
                {count: outputs[name] for count, outputs in joined.items()},
                rows,
            )
            for name, raw in known.items()
        }
    if fixed > samples:
        return {name: SampleAxis(None) for name in known}
    rotated = run(np.roll(np.arange(fixed), 1))
    return {
        name: axis_by_rotation(raw[0], rotated[name], fixed, rows) for name, raw in known.items()
    }


def _joined(run: RunOf, samples: int) -> dict[int, dict[str, Shape]]:
    """Return the shapes of outputs by how many samples were joined; none where it cannot be."""
    shapes = {}
    for count in _JOINED:
        if count > samples:
            break
        try:
            outputs = run(np.arange(count))
        except HastenError:  # a batch that is free by its signature alone
            return {}
        shapes[count] = {name: value.shape for name, value in outputs.items()}
    return shapes


def axis_by_growth(
    alone: Sequence[Shape], joined: Mapping[int, Shape] | None = None, rows: int = 1
) -> SampleAxis:
    """Find the axis from the shapes of runs of one sample each, and of runs of several.

    ``joined`` is by the number of samples. Without it the first axis of so many rows as a sample
    has is taken, which must be so in every run::

        alone [20, 1, 11], two joined [20, 2, 11]     axis 1
        alone [7, 4] and [3, 4]                       none: how many were found varies
        alone [], two joined []                       none
    """
    first = alone[0]
    if any(len(shape) != len(first) for shape in (*alone, *(joined or {}).values())):
        return SampleAxis(None)
    for axis, _ in enumerate(first):
        if any(shape[axis] != rows for shape in alone):
            continue
        if all(shape[axis] == count * rows for count, shape in (joined or {}).items()):
            return SampleAxis(axis, rows)
    return SampleAxis(None)


def axis_by_rotation(
    plain: NDArray[Any], rotated: NDArray[Any], samples: int, rows: int = 1
) -> SampleAxis:
    """Find the axis of a model whose batch is fixed to ``samples``, from two of its runs.

    In the second run the last sample came first, and all others one place later. An axis of the
    right size is told from one that only happens to have it, for its values move with the samples.
    """
    if plain.shape != rotated.shape:
        return SampleAxis(None)
    candidates = [axis for axis, size in enumerate(plain.shape) if size == samples * rows]
    if not candidates:
        return SampleAxis(None)

    def distance(axis: int) -> float:
        return _distance(np.roll(plain, rows, axis=axis), rotated)

    nearest = min(candidates, key=distance)
    moves = distance(nearest) <= _distance(plain, rotated)
    return SampleAxis(nearest, rows) if moves else SampleAxis(None)


def _distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.dtype.kind not in "fc":
        return float(np.mean(one != other))
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return float(np.nan_to_num(apart, nan=0.0, posinf=0.0).mean()) if apart.size else 0.0
