"""What a model answered, on disk, run by run: nothing is joined, cut off or left out.

An output whose runs are all of one shape is one array, [runs, ...], which may be memory mapped.
Else its values lie one run after another in a flat array, beside the shapes of the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten.errors import RuntimeFailureError

__all__ = ["Parts", "RunWriter", "Runs", "plain", "read_runs"]

_INDEX = "runs.json"

Arrays = dict[str, NDArray[Any]]
#: One array a run, or a sample; or one array of all of them.
Parts: TypeAlias = "Sequence[NDArray[Any]] | NDArray[Any]"


class _Index(msgspec.Struct, frozen=True):
    """What runs.json holds: output names in the model's order, and how many samples a run had."""

    outputs: tuple[str, ...]
    stacked: tuple[bool, ...]
    samples: tuple[int, ...]


class Runs(msgspec.Struct, frozen=True, eq=False):
    """Raw outputs by name, one array a run, and the number of samples in each run that count."""

    outputs: Mapping[str, Parts]
    samples: tuple[int, ...]


class RunWriter:
    """Writes the outputs of one run after another to a new folder.

    bfloat16 becomes float32, for .npy files know no bfloat16, and texts become Unicode of a fixed
    width: nothing is pickled.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._samples: list[int] = []
        self._files: dict[str, _Growing] = {}

    def add(self, outputs: Arrays, samples: int) -> None:
        """Take in a run, of which so many leading samples count."""
        for at, (name, value) in enumerate(outputs.items()):
            if name not in self._files:
                self._files[name] = _Growing(self._folder / str(at))
            self._files[name].add(plain(np.asarray(value), name))
        self._samples.append(samples)

    def close(self) -> None:
        """Write the index, last: a folder without it is not complete."""
        stacked = tuple(one.close() for one in self._files.values())
        index = _Index(tuple(self._files), stacked, tuple(self._samples))
        (self._folder / _INDEX).write_bytes(msgspec.json.encode(index))


class _Growing:
    """One output: values are appended to a file, shapes are remembered."""

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._shapes: list[tuple[int, ...]] = []
        self._dtypes: list[np.dtype[Any]] = []
        self._texts: list[NDArray[Any]] = []
        self._raw = stem.with_suffix(".raw")
        self._raw.touch()

    def add(self, value: NDArray[Any]) -> None:
        self._shapes.append(value.shape)
        self._dtypes.append(value.dtype)
        if value.dtype.kind in "SU":  # their width is known once all are there
            self._texts.append(value.reshape(-1))
        else:
            with self._raw.open("ab") as file:
                file.write(np.ascontiguousarray(value).data)

    def close(self) -> bool:
        """Write what reads it; returns whether all runs are of one shape."""
        dtype = np.result_type(*self._dtypes) if self._texts else self._dtypes[0]
        if self._texts:
            self._raw.write_bytes(np.concatenate(self._texts).astype(dtype).tobytes())
        elif any(one != dtype for one in self._dtypes):
            raise RuntimeFailureError(f"an output changed its dtype between runs: {self._stem}")
        stacked = all(shape == self._shapes[0] for shape in self._shapes)
        lengths = {len(shape) for shape in self._shapes}
        if len(lengths) > 1:
            raise RuntimeFailureError("an output changed its number of axes between runs")
        shapes = np.asarray(self._shapes, np.int64).reshape(len(self._shapes), -1)
        np.save(self._stem.with_suffix(".shapes.npy"), shapes, allow_pickle=False)
        np.save(self._stem.with_suffix(".dtype.npy"), np.empty(0, dtype), allow_pickle=False)
        return stacked


def read_runs(folder: Path) -> Runs:
    """Open what a RunWriter wrote; outputs are memory maps where their runs are of one shape."""
    index = msgspec.json.decode((folder / _INDEX).read_bytes(), type=_Index)
    outputs = {
        name: _read(folder / str(at), stacked)
        for at, (name, stacked) in enumerate(zip(index.outputs, index.stacked, strict=True))
    }
    return Runs(outputs, index.samples)


def _read(stem: Path, stacked: bool) -> Parts:
    shapes = np.load(stem.with_suffix(".shapes.npy"), allow_pickle=False)
    dtype = np.load(stem.with_suffix(".dtype.npy"), allow_pickle=False).dtype
    raw = stem.with_suffix(".raw")
    sizes = shapes.prod(axis=1) if shapes.shape[1] else np.ones(len(shapes), np.int64)
    flat = np.empty(0, dtype) if not sizes.sum() else np.memmap(raw, dtype=dtype, mode="r")
    if stacked:
        return flat.reshape(len(shapes), *shapes[0])
    ends = np.cumsum(sizes)
    return [
        flat[end - size : end].reshape(tuple(shape))
        for end, size, shape in zip(ends, sizes, shapes, strict=True)
    ]


def plain(value: NDArray[Any], name: str) -> NDArray[Any]:
    """Return numbers of NumPy's own dtypes, or texts of a fixed width.

    Raises RuntimeFailureError for an output that holds other objects.
    """
    if value.dtype.kind == "V" or value.dtype.isbuiltin not in (0, 1):
        return value.astype(np.float32)
    if value.dtype.kind != "O":
        return value
    flat = [_text(one, name) for one in value.reshape(-1)]
    return np.asarray(flat or [""], dtype=str)[: len(flat)].reshape(value.shape)


def _text(value: object, name: str) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return value
    raise RuntimeFailureError(f"output '{name}' holds {type(value).__name__}, not numbers or texts")
