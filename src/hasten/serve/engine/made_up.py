"""Inputs to warm a model up with, where there are no samples: shapes and values that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hasten.errors import HastenError, RuntimeFailureError
from hasten.graph import Signature, TensorSpec, numpy_dtype

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

    ``shapes`` are those of inputs without the batch, where something says them; elsewhere free
    dimensions are ``length``. Floats are normal(0, 1), or zeros with ``zeros``, integers one of
    ``integers``.
    """

    length: int = 1
    integers: tuple[int, ...] = (0, 1)
    text: str = "1"
    zeros: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def feed(self, signature: Signature, rows: int, seed: int = 0, scale: float = 1.0) -> Arrays:
        """Make inputs of so many rows, which count only where the first axis is free.

        ``scale`` multiplies floats. The same seed gives the same inputs.
        """
        return {
            spec.name: self._tensor(spec, rows, [seed, at], scale)
            for at, spec in enumerate(signature.inputs)
        }

    def _tensor(self, spec: TensorSpec, rows: int, seed: list[int], scale: float) -> np.ndarray:
        shape = self.shape(spec, rows)
        if spec.dtype == "str":
            return np.full(shape, self.text, object)
        dtype = numpy_dtype(spec.dtype)
        random = np.random.default_rng(seed)
        if dtype.kind in "biu":
            return random.choice(np.array(self.integers), shape).astype(dtype)
        if self.zeros:
            return np.zeros(shape, dtype)
        return (random.standard_normal(shape, dtype=np.float32) * scale).astype(dtype)

    def shape(self, spec: TensorSpec, rows: int) -> tuple[int, ...]:
        """Return the shape of an input at so many rows."""
        given = self.shapes.get(spec.name)
        dims = spec.shape
        if given is not None and len(given) == len(dims) - 1 and dims[0] is None:
            return (rows, *given)
        if given is not None and len(given) == len(dims):
            return given
        return tuple(
            (rows if at == 0 else self.length) if dim is None else dim
            for at, dim in enumerate(dims)
        )


def made_up_inputs(signature: Signature, lengths: tuple[int, ...] = _LENGTHS) -> Iterator[MadeUp]:
    """Yield ways to make inputs up, the likeliest first; those that come to the same once."""
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
