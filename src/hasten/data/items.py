"""The item rule: how one sample becomes rows of what a model is fed.

An item of the input's own rank is fed as it is, and several are concatenated along axis 0; an item
of one rank less gets a batch axis, and several are stacked::

    input float32[?,3,224,224]    array [n,1,3,224,224]    items fed as they are, 1 row each
    input float32[?,3,224,224]    array [n,3,224,224]      items get a batch axis
    input float32[4,10]           array [n,10]             4 samples a feed
    input float32[4,10]           array [n,4,10]           1 sample a feed, 4 rows
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from hasten.errors import DataError
from hasten.graph import Signature, TensorSpec

__all__ = ["assemble", "item_fits", "rows_per_sample", "samples_per_feed"]

Shape = tuple[int, ...]


def _has_own_rank(spec: TensorSpec, item: Shape) -> bool:
    return len(item) == len(spec.shape)


def item_fits(spec: TensorSpec, item: Shape) -> bool:
    """Whether items of this shape can make a feed of this input, alone or several together.

    >>> spec = TensorSpec("x", "float32", (4, 10))
    >>> item_fits(spec, (10,)), item_fits(spec, (2, 10)), item_fits(spec, (3, 10))
    (True, True, False)
    """
    if not spec.shape:
        return item == ()
    own_rank = _has_own_rank(spec, item)
    rows, rest = (item[0], item[1:]) if own_rank else (1, item)
    inner = TensorSpec(spec.name, spec.dtype, spec.shape[1:])
    return inner.fits(rest) and (spec.batch is None or spec.batch % rows == 0)


def _rows(spec: TensorSpec, item: Shape) -> int:
    """Rows that one item gives to its input."""
    return item[0] if item and _has_own_rank(spec, item) else 1


def rows_per_sample(signature: Signature, items: Mapping[str, Shape]) -> int:
    """Rows of output that one sample stands for: the most that any of its items gives."""
    return max(_rows(spec, items[spec.name]) for spec in signature.inputs)


def samples_per_feed(signature: Signature, items: Mapping[str, Shape], where: str) -> int | None:
    """How many samples fill the fixed batch of the model; None where the batch is free.

    Raises DataError when its inputs want different numbers of samples.
    """
    wanted = {
        spec.name: spec.batch // _rows(spec, items[spec.name])
        for spec in signature.inputs
        if spec.batch is not None
    }
    if len(set(wanted.values())) > 1:
        raise DataError(
            expected="items that fill every input with the same number of samples",
            got=", ".join(f"{name} {count}" for name, count in wanted.items()),
            where=where,
            hint="give each item with the input's own batch axis",
        )
    return next(iter(wanted.values()), None)


def assemble(spec: TensorSpec, items: NDArray[Any]) -> NDArray[Any]:
    """Make one feed of items [k, ...]; a shape the input does not take is left to the caller."""
    item = items.shape[1:]
    if not spec.shape:
        return items.reshape(item) if len(items) == 1 else items
    return items.reshape(-1, *item[1:]) if _has_own_rank(spec, item) else items
