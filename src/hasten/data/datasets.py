"""Samples from Python objects: arrays, lists, datasets, loaders, generators and callables.

Whatever is given is gone through once and joined in memory. An item is a sample where its arrays
have one axis less than the model's inputs, and a batch where they have as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.labels import Labels
from hasten.data.rows import LABEL_KEYS, Row, read_row
from hasten.data.samples import Samples
from hasten.data.tensors import is_array, plain
from hasten.errors import DataError, foreign
from hasten.graph import Signature
from hasten.graph.object_path import import_object

__all__ = ["read_callable", "read_object"]

_FORMS = (
    "a dict of arrays, an array, a DataLoader, a dataset, a list or generator of samples or"
    " batches, or a function that returns one of these"
)


def read_callable(path: str, signature: Signature) -> Samples:
    """Call ``package.module:callable`` without arguments and read what it returns or yields."""
    make = import_object(path, where="--data", error=DataError)
    if not callable(make):
        raise DataError(expected="a callable", got=f"{type(make).__name__}", where=path)
    return read_object(make, signature, path)


def read_object(source: object, signature: Signature, where: str = "data") -> Samples:
    """Read samples from an object; DataError in one line for what cannot be meant.

    A model with one input takes bare arrays. Tuples are the inputs in their order, with or without
    a label behind; dicts are by input name, with ``labels`` or ``label``.
    """
    if isinstance(source, Samples):
        return source
    if callable(source) and not isinstance(source, Mapping) and not _has_items(source):
        source = _called(source, where)
    if isinstance(source, Mapping):
        return _of_mapping(source, signature, where)
    if is_array(source):
        spec = _only_input(signature, where, got=type(source).__name__)
        return Samples({spec: plain(source, f"{where}: {spec}")}, source=where)
    if source is None or isinstance(source, str | bytes) or not _has_items(source):
        got = "None" if source is None else type(source).__name__
        raise DataError(expected=_FORMS, got=got, where=where)
    return _joined(_rows(source, signature, where), where)


def _has_items(source: object) -> bool:
    has_length = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    return hasattr(source, "__iter__") or has_length


def _called(make: Any, where: str) -> object:
    expected = "a callable without arguments that returns or yields data"
    with foreign(DataError, expected=expected, where=where):
        found: object = make()
    return found


def _of_mapping(source: Mapping[Any, Any], signature: Signature, where: str) -> Samples:
    splits = [str(name) for name, value in source.items() if hasattr(value, "features")]
    if splits:
        raise DataError(
            expected="one dataset",
            got=f"several, {', '.join(splits)}",
            where=where,
            hint=f"choose one, such as data['{splits[0]}']",
        )
    inputs = {spec.name for spec in signature.inputs}
    arrays: dict[str, Any] = {}
    for key, value in source.items():
        name = "labels" if key in LABEL_KEYS and key not in inputs else str(key)
        is_label = name == "labels" and name not in inputs
        arrays[name] = (
            value if is_label and not is_array(value) else plain(value, f"{where}: {key}")
        )
    return Samples.from_mapping(arrays, signature, source=where)


def _only_input(signature: Signature, where: str, got: str) -> str:
    if len(signature.inputs) != 1:
        names = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
        raise DataError(expected=f"arrays for the inputs {names}", got=f"one {got}", where=where)
    return signature.inputs[0].name


def _items(source: Any, where: str) -> Iterator[object]:
    """Yield what is in it, with anything it raises told in one line."""
    with foreign(DataError, expected="data that can be gone through", where=where):
        if hasattr(source, "__iter__"):
            yield from source
        else:  # a dataset that is not told when to stop but by its length
            for at in range(len(source)):
                yield source[at]


def _rows(source: object, signature: Signature, where: str) -> list[Row]:
    rows: list[Row] = []
    for at, item in enumerate(_items(source, where)):
        row = read_row(item, signature, f"{where}, item {at}")
        if rows:
            _require_alike(rows[0], row, f"{where}, item {at}")
        rows.append(row)
    if not rows:
        raise DataError(expected="at least one sample", got="none", where=where)
    return rows


def _require_alike(first: Row, row: Row, where: str) -> None:
    """Raise DataError unless an item has the names, dtypes and shapes of the first."""
    if row.arrays.keys() != first.arrays.keys() or (row.label is None) != (first.label is None):
        names = [", ".join(one.names) or "nothing" for one in (first, row)]
        raise DataError(expected=f"{names[0]} as in the first item", got=names[1], where=where)
    for name in row.arrays:
        want, have = (_kind(one.arrays[name], one.is_batch) for one in (first, row))
        if want != have:
            raise DataError(
                expected=f"samples of {want} as in the first item",
                got=have,
                where=f"{where}: {name}",
            )


def _kind(array: NDArray[Any], is_batch: bool) -> str:
    return f"{array.dtype}{list(array.shape[1:] if is_batch else array.shape)}"


def _joined(rows: Sequence[Row], where: str) -> Samples:
    arrays = {}
    for name in rows[0].arrays:
        parts = [row.arrays[name] if row.is_batch else row.arrays[name][None] for row in rows]
        arrays[name] = np.concatenate(parts)
    labels = None if rows[0].label is None else _labels(rows, where)
    return Samples(arrays, labels, source=where)


def _labels(rows: Sequence[Row], where: str) -> Labels | NDArray[Any] | list[object]:
    """Return the labels of all rows one after another."""
    each: list[object] = []
    for row in rows:
        if not row.is_batch:
            each.append(row.label)
        elif isinstance(row.label, Iterable):
            each.extend(row.label)
        else:
            raise DataError(
                expected="a label for each sample of a batch",
                got=type(row.label).__name__,
                where=where,
            )
    if all(isinstance(one, Mapping | str) for one in each):
        return each
    found = [plain(one, f"{where}: labels") for one in each]
    if len({one.shape for one in found}) > 1:
        raise DataError(
            expected="labels of one shape",
            got=" and ".join(sorted({str(list(one.shape)) for one in found})[:2]),
            where=f"{where}: labels",
        )
    return np.stack(found)
