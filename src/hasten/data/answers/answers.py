"""What a model answered for samples: its outputs, each with the samples told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers.runs import Parts, Runs
from hasten.data.answers.sample_axis import FIRST_AXIS, SampleAxis

__all__ = ["Answers", "Output"]

#: As much of an output as is looked at at a time, in values.
_PIECE_VALUES = 2**20


@dataclass(frozen=True, eq=False)
class Output:
    """One output over all samples.

    ``values`` is [samples, ...], without the axis of samples that a run had, or None where samples
    are of different shapes; ``parts`` are the same one sample at a time. An output without an axis
    of samples has one part a run, which is a sample's only where runs had one each
    (``per_sample``).
    """

    name: str
    values: NDArray[Any] | None
    parts: Parts
    axis: SampleAxis = FIRST_AXIS
    per_sample: bool = True

    @classmethod
    def of(cls, name: str, values: NDArray[Any]) -> Output:
        """Take an array whose first axis is the sample; a scalar is one sample."""
        stacked = np.atleast_1d(values)
        return cls(name, stacked, stacked)

    @classmethod
    def from_runs(cls, name: str, raw: Parts, samples: Sequence[int], axis: SampleAxis) -> Output:
        """Tell samples apart in the outputs of runs, of which so many samples count each."""
        alone = all(count == 1 for count in samples)
        if axis.axis is None:
            stack = raw if isinstance(raw, np.ndarray) else None
            return cls(name, stack, raw, axis, per_sample=alone)
        if isinstance(raw, np.ndarray) and alone and raw.shape[axis.axis + 1] == axis.rows:
            moved = np.moveaxis(raw, axis.axis + 1, 1)
            stack = moved[:, 0] if axis.rows == 1 else moved
            return cls(name, stack, stack, axis)
        parts = [
            one
            for value, count in zip(raw, samples, strict=True)
            for one in _split(value, axis, count)
        ]
        same = {part.shape for part in parts}
        stacked = np.stack(parts) if len(same) == 1 else None
        return cls(name, stacked, parts if stacked is None else stacked, axis)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its values."""
        return self.parts[0].dtype

    def pieces(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield ([samples], values) some megabytes at a time; one sample each where they differ."""
        if self.values is None:
            for at, part in enumerate(self.parts):
                yield slice(at, at + 1), part[np.newaxis]
            return
        step = max(1, _PIECE_VALUES // max(1, int(np.prod(self.values.shape[1:]))))
        for start in range(0, len(self.values), step):
            rows = slice(start, min(start + step, len(self.values)))
            yield rows, np.asarray(self.values[rows])

    @cached_property
    def joined(self) -> NDArray[Any] | list[NDArray[Any]]:
        """What one run over all samples would have given, for code that takes arrays.

        Samples lie along the axis they have in the model. Outputs without one are stacked along a
        new first axis, or where their sizes vary joined along their first axis; a list where not
        even that can be.
        """
        if self.values is None:
            inner = {part.shape[1:] for part in self.parts}
            return np.concatenate(self.parts) if len(inner) == 1 else list(self.parts)
        axis, rows = self.axis
        if axis is None or (axis == 0 and rows == 1):
            return self.values
        if rows == 1:
            return np.moveaxis(self.values, 0, axis)
        return np.concatenate([np.moveaxis(one, 0, axis) for one in self.values], axis=axis)

    def select(self, samples: NDArray[np.int64]) -> Output:
        """Return these samples alone."""
        if self.values is not None:
            chosen = self.values[samples]
            return Output(self.name, chosen, chosen, self.axis, self.per_sample)
        parts = [self.parts[at] for at in samples]
        return Output(self.name, None, parts, self.axis, self.per_sample)


@dataclass(frozen=True, eq=False)
class Answers(Mapping[str, Output]):
    """The outputs of a model by name, in its own order.

    ``runs`` are the raw outputs of each run where they came from one, for rules of the user's own.
    """

    outputs: Mapping[str, Output]
    runs: Runs | None = field(default=None)

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> Answers:
        """Take answers as they are, or arrays by name whose first axis is the sample."""
        if isinstance(outputs, Answers):
            return outputs
        return cls({name: Output.of(name, np.asarray(one)) for name, one in outputs.items()})

    @classmethod
    def from_runs(cls, runs: Runs, axes: Mapping[str, SampleAxis]) -> Answers:
        """Tell samples apart in what was answered run by run."""
        found = {
            name: Output.from_runs(name, raw, runs.samples, axes.get(name, SampleAxis(None)))
            for name, raw in runs.outputs.items()
        }
        return cls(found, runs)

    def __getitem__(self, name: str) -> Output:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def first(self) -> Output:
        """The first output."""
        return next(iter(self.outputs.values()))

    def select(self, samples: NDArray[np.int64]) -> Answers:
        """Return the answers for these samples; outputs that have no samples stay as they are."""
        chosen = {
            name: one.select(samples) if one.per_sample else one
            for name, one in self.outputs.items()
        }
        return Answers(chosen)


def _split(value: NDArray[Any], axis: SampleAxis, count: int) -> Iterator[NDArray[Any]]:
    """Yield the samples of one run that count."""
    moved = np.moveaxis(value, axis.axis or 0, 0)
    for at in range(count):
        rows = moved[at * axis.rows : (at + 1) * axis.rows]
        yield rows[0, ...] if axis.rows == 1 else rows
