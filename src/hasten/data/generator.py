"""Samples from a Python callable that yields batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.samples import Samples
from hasten.errors import DataError, one_line
from hasten.graph import Signature
from hasten.graph.object_path import import_object

__all__ = ["read_callable"]

Batch = dict[str, NDArray[Any]]


def read_callable(path: str, signature: Signature) -> Samples:
    """Call ``package.module:callable`` without arguments and join the batches it yields.

    A batch is a dict of arrays by input name, samples along the first axis, with optional
    ``labels``. All batches are held in memory. Raises DataError when there is no such callable,
    when it raises, and when its batches cannot be joined.
    """
    make = import_object(path, where="--data", error=DataError)
    if not callable(make):
        raise DataError(expected="a callable", got=f"{type(make).__name__}", where=path)
    batches: list[Batch] = []
    for batch in _calling(make, path):
        batches.append(_read_batch(batch, f"{path}, batch {len(batches)}"))
        _require_alike(batches[0], batches[-1], f"{path}, batch {len(batches) - 1}")
    if not batches:
        raise DataError(expected="at least one batch", got="none", where=path)
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return Samples.from_mapping(joined, signature, source=path)


def _calling(make: Any, path: str) -> Iterable[object]:
    """Yield what the callable yields, with anything it raises told in one line."""
    try:
        yield from make()
    except Exception as problem:
        raise DataError(
            expected="a callable that yields batches", got=one_line(problem), where=path
        ) from problem


def _read_batch(batch: object, where: str) -> Batch:
    if not isinstance(batch, Mapping):
        raise DataError(
            expected="a dict of arrays by input name", got=type(batch).__name__, where=where
        )
    arrays: Batch = {}
    for name, value in batch.items():
        try:
            arrays[str(name)] = np.asarray(value)
        except (ValueError, TypeError) as problem:
            raise DataError(
                expected="an array", got=one_line(problem), where=f"{where}: {name}"
            ) from problem
    return arrays


def _require_alike(first: Batch, batch: Batch, where: str) -> None:
    """Raise DataError unless the batch has the names, dtypes and item shapes of the first."""
    if batch.keys() != first.keys():
        raise DataError(
            expected=f"the arrays of the first batch, {', '.join(first)}",
            got=", ".join(batch) or "none",
            where=where,
        )
    for name, array in batch.items():
        if array.ndim == 0:
            raise DataError(
                expected="an array whose first axis is the sample",
                got="a scalar",
                where=f"{where}: {name}",
            )
        want, have = (f"{each.dtype}{list(each.shape[1:])}" for each in (first[name], array))
        if want != have:
            raise DataError(
                expected=f"items of {want} as in the first batch",
                got=have,
                where=f"{where}: {name}",
            )
