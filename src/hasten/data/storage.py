"""Samples in a folder: how a worker process gets the data without reading all of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from numpy.typing import NDArray

from hasten.data.labels import LabelIndex, Labels, read_labels, write_labels
from hasten.data.npy import open_npy
from hasten.data.preprocessing import Preprocessing
from hasten.errors import DataError, one_line

__all__ = ["Stored", "array_path", "read_folder", "write_index"]

_INDEX = "samples.json"


class _Entry(msgspec.Struct, frozen=True):
    """One array: its file follows from its place in the list, so a name may hold any character."""

    name: str
    dtype: str


class _Index(msgspec.Struct, frozen=True):
    """What samples.json holds."""

    source: str
    arrays: tuple[_Entry, ...]
    labels: LabelIndex | None
    preprocessing: dict[str, Preprocessing]


class Stored(NamedTuple):
    """What a folder holds; the arrays are memory maps."""

    arrays: dict[str, NDArray[Any]]
    labels: Labels | None
    preprocessing: dict[str, Preprocessing]
    source: str


def array_path(folder: Path, index: int) -> Path:
    """Return the file of the array that stands at this place in the index."""
    return folder / f"array_{index}.npy"


def write_index(
    folder: Path,
    dtypes: Mapping[str, str],
    labels: Labels | None,
    preprocessing: Mapping[str, Preprocessing],
    source: str,
) -> None:
    """Write labels and samples.json, the latter last: a folder without it is not complete."""
    written = None if labels is None else write_labels(folder, labels)
    entries = tuple(_Entry(name, dtype) for name, dtype in dtypes.items())
    index = _Index(source, entries, written, dict(preprocessing))
    (folder / _INDEX).write_bytes(msgspec.json.encode(index))


def read_folder(folder: Path) -> Stored:
    """Open what was saved there; raises DataError when it is missing or damaged."""
    try:
        index = msgspec.json.decode((folder / _INDEX).read_bytes(), type=_Index)
        arrays = {
            entry.name: open_npy(array_path(folder, place), entry.dtype)
            for place, entry in enumerate(index.arrays)
        }
        labels = None if index.labels is None else read_labels(folder, index.labels)
    except (OSError, EOFError, ValueError, TypeError) as problem:
        raise DataError(
            expected="samples saved by Hasten",
            got=one_line(problem),
            where=str(folder),
        ) from problem
    return Stored(arrays, labels, index.preprocessing, index.source)
