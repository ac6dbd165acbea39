"""Inputs to warm a model up with, where there are no samples: shapes and values that it takes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hasten.errors import HastenError, RuntimeFailureError
from hasten.graph import Signature, TensorSpec, numpy_dtype
from hasten.serve.engine.settings import ModelWarmup, WarmupInput

if TYPE_CHECKING:
    from hasten.runtimes import Arrays

__all__ = ["MadeUp", "first_that_runs", "made_up_inputs", "may_be_unlucky"]

#: What free dimensions other than the batch are tried with: words of a short text, a small image,
#: the usual image, and the least there can be.
_LENGTHS = (16, 64, 224, 1)
#: What integers and texts are drawn from: zeros and ones are indices and masks alike; by a zero
#: nothing can be divided, and a 1 may be outside of a table.
_INTEGERS = ((0, 1), (1,), (0,))
_TEXTS = ("1", "")


@dataclass(frozen=True)
class MadeUp:
    """One way to make inputs up.

    ``given`` says how for some of the inputs, by name. Of the others, free dimensions beside the
    batch are ``length``, floats are normal(0, 1), or zeros with ``zeros``, integers one of
    ``integers``, texts ``text``.
    """

    length: int = 1
    integers: tuple[int, ...] = (0, 1)
    text: str = "1"
    zeros: bool = False
    given: Mapping[str, WarmupInput] = field(default_factory=dict)

    def feed(self, signature: Signature, rows: int, seed: int = 0, scale: float = 1.0) -> Arrays:
        """Make inputs of so many rows, which count only where the first axis is free.

        ``scale`` multiplies floats. The same seed gives the same inputs.
        """
        return {
            spec.name: self._tensor(spec, rows, [seed, at], scale)
            for at, spec in enumerate(signature.inputs)
        }

    def _tensor(self, spec: TensorSpec, rows: int, seed: list[int], scale: float) -> np.ndarray:
        given = self.given.get(spec.name)
        shape = self._shape(spec, rows)
        if given is not None and given.file:
            return _from_file(given.file, spec, shape)
        if spec.dtype == "str":
            return np.full(shape, self.text, object)
        dtype = numpy_dtype(spec.dtype)
        random = np.random.default_rng(seed)
        if self.zeros or (given is not None and given.data == "zero"):
            return np.zeros(shape, dtype)
        if dtype.kind in "biu":
            values = self.integers if given is None else range(given.low, given.high + 1)
            return np.array(values)[random.integers(len(values), size=shape)].astype(dtype)
        return (random.standard_normal(shape, dtype=np.float32) * scale).astype(dtype)

    def _shape(self, spec: TensorSpec, rows: int) -> tuple[int, ...]:
        """Return the shape of an input at so many rows."""
        given, dims = self.given.get(spec.name), spec.shape
        if given is not None and given.dims:
            whole = (rows, *given.dims) if len(given.dims) == len(dims) - 1 else given.dims
            if spec.fits(whole):
                return whole
        return tuple(
            (rows if at == 0 else self.length) if dim is None else dim
            for at, dim in enumerate(dims)
        )


def _from_file(path: str, spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Read the bytes of one row, or of some, and repeat them to the shape; RuntimeFailureError."""
    size = math.prod(shape)
    try:
        data = Path(path).read_bytes()
        flat = _texts(data) if spec.dtype == "str" else np.frombuffer(data, numpy_dtype(spec.dtype))
    except (OSError, ValueError, struct.error) as error:
        raise RuntimeFailureError(f"{path}: {error}") from error
    row = size // shape[0] if shape and shape[0] else size
    if not flat.size or not row or flat.size % row:
        raise RuntimeFailureError(
            f"{path}: Expected {spec.layout} of {row} elements a row, got {flat.size}"
        )
    return np.resize(flat, shape)


def _texts(data: bytes) -> np.ndarray:
    found, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + size].decode(errors="surrogateescape"))
        at += 4 + size
    return np.array(found, object)


def made_up_inputs(
    signature: Signature,
    warmups: Sequence[ModelWarmup] = (),
    lengths: tuple[int, ...] = _LENGTHS,
) -> Iterator[MadeUp]:
    """Yield ways to make inputs up: those that are given, then the likeliest first, each once."""
    for warmup in warmups:
        yield MadeUp(lengths[0], given=warmup.inputs)
    for zeros in (False, True):
        for text in _TEXTS if _has(signature, "str") else _TEXTS[:1]:
            for values in _INTEGERS if _has(signature, "int", "bool") else _INTEGERS[:1]:
                for length in lengths if _is_free(signature) else lengths[:1]:
                    yield MadeUp(length, values, text, zeros)


def may_be_unlucky(signature: Signature) -> bool:
    """Whether a model that runs on no made-up inputs may run on others.

    Floats of fixed shapes are as good as any; texts, integers and sizes have to be the right ones.
    """
    return _is_free(signature) or _has(signature, "str", "int")


def _is_free(signature: Signature) -> bool:
    return any(None in spec.shape[1:] for spec in signature.inputs)


def _has(signature: Signature, *kinds: str) -> bool:
    return any(kind in spec.dtype for spec in signature.inputs for kind in kinds)


def first_that_runs(
    ways: Iterator[MadeUp], run: Callable[[MadeUp], object]
) -> tuple[MadeUp | None, HastenError | None]:
    """Return the first way whose inputs the model takes, or None and what it said of the first."""
    refusal: HastenError | None = None
    for way in ways:
        try:
            run(way)
        except RuntimeFailureError as error:
            refusal = refusal or error
        else:
            return way, None
    return None, refusal
