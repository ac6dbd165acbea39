"""Runs in memory that is used again: the runtime's own where it has it, else arrays of ours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasten.graph import Signature, TensorSpec, numpy_dtype
from hasten.runtimes.runtime import Arrays, Binding, Session

__all__ = ["CopyBinding", "bind", "shapes_at", "zeros"]

Shapes = list[tuple[int, ...]]


def shapes_at(signature: Signature, rows: int) -> tuple[Shapes, Shapes] | None:
    """Return the shapes of inputs and outputs at so many rows; None where more than those is free.

    >>> x, y = TensorSpec("x", "float32", (None, 4)), TensorSpec("y", "float32", (None,))
    >>> shapes_at(Signature((x,), (y,)), 2)
    ([(2, 4)], [(2,)])
    """
    inputs = [_shape(spec, rows) for spec in signature.inputs]
    outputs = [_shape(spec, rows) for spec in signature.outputs]
    if None in inputs or None in outputs:
        return None
    return [one for one in inputs if one is not None], [one for one in outputs if one is not None]


def _shape(spec: TensorSpec, rows: int) -> tuple[int, ...] | None:
    rest = [dim for dim in spec.shape[1:] if dim is not None]
    if len(rest) < len(spec.shape) - 1:
        return None
    first = () if not spec.shape else (rows if spec.shape[0] is None else spec.shape[0],)
    return (*first, *rest)


def bind(session: Session, signature: Signature, rows: int) -> Binding | None:
    """Return memory for runs of so many rows; None where shapes depend on more than them."""
    own = getattr(session, "bind", None)
    found: Binding | None = own(rows) if own is not None else None
    if found is not None:
        return found
    shapes = shapes_at(signature, rows)
    return None if shapes is None else CopyBinding(session, signature, shapes[0])


def zeros(spec: TensorSpec, shape: Sequence[int]) -> np.ndarray:
    """Return zeros to feed; texts, which are objects in an array, are empty.

    >>> zeros(TensorSpec("x", "str", (None,)), [2]).tolist()
    ['', '']
    """
    if spec.dtype == "str":
        return np.full(shape, "", object)
    return np.zeros(shape, numpy_dtype(spec.dtype))


class CopyBinding:
    """For sessions without memory of their own: inputs are ours, outputs what each run returns."""

    def __init__(self, session: Session, signature: Signature, shapes: Shapes) -> None:
        self._session = session
        self._feed: Arrays = {
            spec.name: zeros(spec, shape)
            for spec, shape in zip(signature.inputs, shapes, strict=True)
        }
        self._names = [spec.name for spec in signature.outputs]
        self._answer: Arrays = {}

    def inputs(self) -> tuple[np.ndarray, ...]:
        """Arrays to fill."""
        return tuple(self._feed.values())

    def run(self) -> None:
        """Run on what was filled in."""
        self._answer = self._session.run(self._feed)

    def outputs(self) -> tuple[np.ndarray, ...]:
        """Arrays to read."""
        return tuple(self._answer[name] for name in self._names)
