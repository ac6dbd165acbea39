"""Samples: what a model is calibrated, judged and timed with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hasten.data import fit, items, storage
from hasten.data.finite import can_be_nonfinite
from hasten.data.npy import as_bytes, write_npy
from hasten.data.preprocessing import Preprocessing
from hasten.data.synthetic import draw_inputs
from hasten.errors import DataError, OutputError, one_line
from hasten.graph import Signature, TensorSpec

__all__ = ["Samples", "stratified"]

#: As much of an array as is in memory at a time when all of it is read.
_PIECE_BYTES = 16 * 2**20

Indices = Sequence[int] | NDArray[np.int64]


class Samples:
    """Arrays by input name, with the sample along the first axis, and labels where there are any.

    Never changed: a selection or split is a view of the same arrays (which may be memory maps) and
    copies nothing. ``preprocessing`` says for an input that its array holds raw pixels, uint8
    [n, height, width, channels], and how they become its float values. ``source`` names the data
    in messages. Raises DataError for arrays that are empty, not numbers or not of one length, and
    for labels that are not integers from 0, one a sample.

    >>> samples = Samples({"x": np.arange(6.0).reshape(3, 2)}, labels=[0, 1, 1])
    >>> len(samples), samples.select([2, 0]).labels
    (3, array([1, 0]))
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        labels: ArrayLike | None = None,
        preprocessing: Mapping[str, Preprocessing] | None = None,
        *,
        source: str = "data",
    ) -> None:
        for name, array in arrays.items():
            fit.require_values(array, f"{source}: {name}")
        count = fit.require_same_length(arrays, source)
        self._store = {name: np.asarray(array) for name, array in arrays.items()}
        self._rows = np.arange(count)
        self._labels = None
        if labels is not None:
            self._labels = fit.require_labels(np.asarray(labels), count, f"{source}: labels")
        self._preprocessing = MappingProxyType(dict(preprocessing or {}))
        self._source = source

    @classmethod
    def from_mapping(
        cls, values: Mapping[str, ArrayLike], signature: Signature, *, source: str
    ) -> Samples:
        """Make samples of arrays by name, where ``labels`` are labels unless an input is so named.

        Raises DataError for values that are no arrays.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name, value in values.items():
            try:
                arrays[name] = np.asarray(value)
            except (ValueError, TypeError) as problem:
                raise DataError(
                    expected="an array", got=one_line(problem), where=f"{source}: {name}"
                ) from problem
        has_labels = all(spec.name != "labels" for spec in signature.inputs)
        labels = arrays.pop("labels", None) if has_labels else None
        return cls(arrays, labels, source=source)

    @classmethod
    def synthetic(cls, signature: Signature, count: int, seed: int) -> Samples:
        """Random samples for a model without data; ModelError where a size is not known.

        Floats are normal(0, 1), integers 0 or 1, uint8 0..255.
        """
        return cls(draw_inputs(signature, count, seed), source="synthetic data")

    @classmethod
    def load(cls, folder: Path) -> Samples:
        """Open what ``save`` wrote, as memory maps; raises DataError when it is not that."""
        stored = storage.read_folder(folder)
        return cls(stored.arrays, stored.labels, stored.preprocessing, source=stored.source)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        arrays = ", ".join(
            f"{name} {array.dtype}{list(array.shape[1:])}" for name, array in self._store.items()
        )
        labelled = ", labelled" if self._labels is not None else ""
        return f"Samples({len(self)} x {arrays}{labelled})"

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """The arrays, read-only and in the order of the samples; a selection is copied here."""
        found: dict[str, NDArray[Any]] = {}
        for name, array in self._store.items():
            found[name] = array.view() if self._is_whole else array[self._rows]
            found[name].flags.writeable = False
        return MappingProxyType(found)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class of each sample, int64 [n], or None."""
        return None if self._labels is None else self._labels[self._rows]

    @property
    def preprocessing(self) -> Mapping[str, Preprocessing]:
        """By input name, how its raw pixels become what the model takes; often empty."""
        return self._preprocessing

    @property
    def source(self) -> str:
        """Where the samples are from, for messages."""
        return self._source

    @property
    def _is_whole(self) -> bool:
        count = len(next(iter(self._store.values())))
        return len(self) == count and bool((self._rows == np.arange(count)).all())

    def select(self, indices: Indices) -> Samples:
        """Return these samples, in this order; DataError for none, IndexError for one beyond."""
        if len(indices) == 0:
            raise DataError(expected="at least one sample", got="none", where=self.source)
        return self._evolve(self._rows[np.asarray(indices, np.int64)], self._preprocessing)

    def with_preprocessing(self, name: str, preprocessing: Preprocessing) -> Samples:
        """Return the same samples, where the array of this name holds pixels to preprocess."""
        return self._evolve(self._rows, {**self._preprocessing, name: preprocessing})

    def _evolve(
        self, rows: NDArray[np.int64], preprocessing: Mapping[str, Preprocessing]
    ) -> Samples:
        made = object.__new__(Samples)
        made._store, made._labels, made._source = self._store, self._labels, self._source
        made._rows, made._preprocessing = rows, MappingProxyType(dict(preprocessing))
        return made

    def split(self, *, calibration: int, seed: int) -> tuple[Samples, Samples]:
        """Split into (calibration, validation), disjoint and shuffled, the same for one seed.

        Each class gives its share to both where there are labels. Raises DataError unless at
        least one sample is left on either side.
        """
        if not 1 <= calibration < len(self):
            raise DataError(
                expected=f"more samples than the {calibration} for calibration"
                if calibration > 0
                else "at least one sample for calibration",
                got=f"{len(self)} samples" if calibration > 0 else str(calibration),
                where=self.source,
            )
        random = np.random.default_rng(seed)
        order = random.permutation(len(self))
        labels = self.labels
        classes = np.zeros(len(self), np.int64) if labels is None else labels[order]
        chosen = stratified(classes, calibration)
        return self.select(order[chosen]), self.select(order[~chosen])

    def check(self, signature: Signature) -> None:
        """Raise DataError unless a model of this signature can be fed with every sample.

        Nothing is cast: a dtype has to be the input's own. NaN and infinity are errors.
        """
        fed = self._fed_items(signature)
        fit.require_only_inputs(self._store, signature, self.source)
        items.samples_per_feed(signature, fed, self.source)
        for name, array in self._store.items():
            if can_be_nonfinite(array.dtype):
                fit.require_finite(self._pieces(name), f"{self.source}: {name}")

    def feed(self, signature: Signature, indices: Indices) -> dict[str, NDArray[Any]]:
        """Make one feed of these samples: C-contiguous arrays of the dtypes the inputs have.

        An item of the input's own rank is fed as it is (several are concatenated along axis 0), one
        of one rank less gets a batch axis. Pixels with preprocessing go to a float32 input
        preprocessed, and to a uint8 input as they are, [n, height, width, channels].
        Raises DataError when the model does not take them.
        """
        self._fed_items(signature)
        rows = self._rows[np.asarray(indices, np.int64)]
        return {spec.name: self._feed_one(spec, rows) for spec in signature.inputs}

    def _feed_one(self, spec: TensorSpec, rows: NDArray[np.int64]) -> NDArray[Any]:
        values = self._store[spec.name][rows]
        preprocessing = self._preprocessing.get(spec.name)
        if preprocessing is not None and spec.dtype != "uint8":
            values = preprocessing.apply(values)
        array: NDArray[Any] = np.asarray(items.assemble(spec, values), order="C")
        if not spec.fits(array.shape):
            raise DataError(
                expected=spec.layout,
                got=f"{len(rows)} samples that make {list(array.shape)}",
                where=f"{self.source}: {spec.name}",
            )
        return array

    def batches(
        self, signature: Signature, size: int
    ) -> Iterator[tuple[dict[str, NDArray[Any]], int]]:
        """Yield (feed, rows that count) over all samples in order, ``size`` samples at a time.

        A model with a fixed batch gets full batches whatever ``size`` is: the last one repeats its
        last sample, and only so many leading rows of its outputs count.
        """
        fed = self._fed_items(signature)
        fixed = items.samples_per_feed(signature, fed, self.source)
        rows = items.rows_per_sample(signature, fed)
        step = fixed or size
        for start in range(0, len(self), step):
            indices = np.arange(start, min(start + step, len(self)))
            valid = len(indices)
            if fixed:
                indices = np.pad(indices, (0, step - valid), mode="edge")
            yield self.feed(signature, indices), valid * rows

    def per_feed(self, signature: Signature) -> int | None:
        """Return how many samples fill the fixed batch of a model; None where its batch is free.

        Raises DataError when the model does not take them.
        """
        return items.samples_per_feed(signature, self._fed_items(signature), self.source)

    def rows_per_sample(self, signature: Signature) -> int:
        """Return how many rows of its inputs one sample fills: 1 unless items have a batch axis."""
        return items.rows_per_sample(signature, self._fed_items(signature))

    def _fed_items(self, signature: Signature) -> dict[str, tuple[int, ...]]:
        """Shape of one item as it is fed, by input; raises DataError for an input it cannot be."""
        fit.require_inputs(self._store, signature, self.source)
        found: dict[str, tuple[int, ...]] = {}
        for spec in signature.inputs:
            found[spec.name] = fit.require_fit(
                spec,
                self._store[spec.name],
                self._preprocessing.get(spec.name),
                f"{self.source}: {spec.name}",
            )
        return found

    def _pieces(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield the array in pieces of some megabytes, in the order of the samples."""
        array = self._store[name]
        step = max(1, _PIECE_BYTES // max(1, array[:1].nbytes))
        for start in range(0, len(self), step):
            yield array[self._rows[start : start + step]]

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the names, dtypes, shapes, values, labels and preprocessing."""
        sha = hashlib.sha256()
        for name in sorted(self._store):
            array = self._store[name]
            shape = (len(self), *array.shape[1:])
            sha.update(repr((name, array.dtype.name, array.dtype.str, shape)).encode())
            for piece in self._pieces(name):
                sha.update(as_bytes(piece))
        labels = self.labels
        sha.update(b"no labels" if labels is None else b"labels" + labels.tobytes())
        sha.update(msgspec.json.encode(dict(sorted(self._preprocessing.items()))))
        return sha.hexdigest()

    def save(self, folder: Path) -> None:
        """Write each array as .npy, the labels, and samples.json, which is written last.

        Raises OutputError when the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for place, (name, array) in enumerate(self._store.items()):
                shape = (len(self), *array.shape[1:])
                path = storage.array_path(folder, place)
                write_npy(path, array.dtype, shape, self._pieces(name))
            dtypes = {name: array.dtype.name for name, array in self._store.items()}
            storage.write_index(folder, dtypes, self.labels, self._preprocessing, self._source)
        except OSError as problem:
            raise OutputError(
                expected="a folder to write samples to",
                got=problem.strerror or str(problem),
                where=str(folder),
            ) from problem


def stratified(labels: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Choose ``count`` of the labels, the first of each class, in proportion to its size.

    Shares are rounded down and what is left goes to the largest remainders.
    """
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    quota, remainders = np.divmod(sizes * count, len(labels))
    largest = np.argsort(-remainders, kind="stable")
    quota[largest[: count - int(quota.sum())]] += 1
    order = np.argsort(classes, kind="stable")
    rank_in_class = np.empty(len(labels), np.int64)
    rank_in_class[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen: NDArray[np.bool_] = rank_in_class < quota[classes]
    return chosen
