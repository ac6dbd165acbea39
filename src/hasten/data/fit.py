"""Whether arrays are well formed, and whether they fit the inputs of a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.finite import nonfinite_row
from hasten.data.items import item_fits
from hasten.data.preprocessing import Preprocessing
from hasten.errors import DataError
from hasten.graph import Signature, TensorSpec, numpy_dtype

__all__ = [
    "require_finite",
    "require_fit",
    "require_inputs",
    "require_only_inputs",
    "require_same_length",
    "require_values",
]


def require_values(array: NDArray[Any], where: str) -> None:
    """Raise DataError unless the array holds numbers, with samples along its first axis."""
    is_numeric = array.dtype.kind in "biufc" or _is_extension_float(array.dtype)
    if not is_numeric:
        raise DataError(expected="numbers", got=f"dtype {array.dtype}", where=where)
    if array.ndim == 0:
        raise DataError(
            expected="an array whose first axis is the sample", got="a scalar", where=where
        )
    if array.size == 0:
        raise DataError(
            expected="at least one value",
            got=f"an array of shape {_dims(array.shape)}",
            where=where,
        )


def _is_extension_float(dtype: np.dtype[Any]) -> bool:
    """Whether this is bfloat16 or another number type that is registered with NumPy."""
    return dtype.kind == "V" and dtype.fields is None and dtype.isbuiltin not in (0, 1)


def require_same_length(arrays: Mapping[str, NDArray[Any]], where: str) -> int:
    """Return the number of samples; raise DataError when there is none, or the arrays differ."""
    if not arrays:
        raise DataError(expected="an array for each input", got="no arrays", where=where)
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            expected="the same number of samples in every array",
            got=", ".join(f"{name} {length}" for name, length in lengths.items()),
            where=where,
        )
    return next(iter(lengths.values()))


def require_inputs(names: Collection[str], signature: Signature, where: str) -> None:
    """Raise DataError for an input without an array."""
    inputs = [spec.name for spec in signature.inputs]
    for name in inputs:
        if name not in names:
            raise DataError(
                expected=f"an array '{name}'",
                got=_quoted(names),
                where=where,
                hint=_suggestion(name, set(names).difference(inputs)),
            )


def require_only_inputs(names: Iterable[str], signature: Signature, where: str) -> None:
    """Raise DataError for an array without an input."""
    inputs = [spec.name for spec in signature.inputs]
    for name in names:
        if name not in inputs:
            raise DataError(
                expected=f"only the model's inputs {_quoted(inputs)}",
                got=f"an array '{name}'",
                where=where,
                hint=_suggestion(name, inputs),
            )


def _suggestion(name: str, others: Iterable[str]) -> str:
    near = get_close_matches(name, list(others), n=1)
    return f"is it '{near[0]}'?" if near else ""


def require_fit(
    spec: TensorSpec, array: NDArray[Any], preprocessing: Preprocessing | None, where: str
) -> tuple[int, ...]:
    """Return the shape of one item as it is fed; raise DataError unless the input takes it."""
    if preprocessing is not None:
        return _require_pixels(spec, array, preprocessing, where)
    expected = _dtype(spec, where)
    if array.dtype != expected:
        raise DataError(
            expected=str(expected),
            got=str(array.dtype),
            where=where,
            hint=f"cast it with array.astype('{expected}')",
        )
    if not item_fits(spec, array.shape[1:]):
        raise _shape_error(spec, array.shape, where)
    return array.shape[1:]


def _require_pixels(
    spec: TensorSpec, array: NDArray[Any], preprocessing: Preprocessing, where: str
) -> tuple[int, ...]:
    """Return the item of an input fed from pixels: preprocessed as float32, raw as uint8."""
    if array.dtype != np.uint8 or array.shape[1:] != preprocessing.pixel_shape:
        raise DataError(
            expected=f"pixels uint8{_dims(('?', *preprocessing.pixel_shape))} to preprocess",
            got=f"{array.dtype}{_dims(array.shape)}",
            where=where,
        )
    if spec.dtype not in ("float32", "uint8"):
        raise DataError(expected="an input of float32 or uint8", got=str(spec), where=where)
    is_raw = spec.dtype == "uint8"
    item = preprocessing.pixel_shape if is_raw else preprocessing.input_shape
    if not item_fits(spec, item):
        raise DataError(
            expected=spec.layout,
            got=f"images of {_dims(item)} after preprocessing",
            where=where,
            hint="set size, layout and colour of --preprocess",
        )
    return item


def _dtype(spec: TensorSpec, where: str) -> np.dtype[Any]:
    try:
        return numpy_dtype(spec.dtype)
    except TypeError:
        raise DataError(
            expected="an input of numbers", got=f"the model's input {spec}", where=where
        ) from None


def _shape_error(spec: TensorSpec, shape: tuple[int, ...], where: str) -> DataError:
    rank = len(spec.shape)
    if len(shape) not in (rank, rank + 1):
        wanted = f"{rank} axes (or {rank + 1}, each item with a batch axis)" if rank else "1 axis"
        return DataError(
            expected=f"{wanted} for {spec.layout}",
            got=f"{len(shape)} axes, {_dims(shape)}",
            where=where,
        )
    item = spec.shape if len(shape) == rank + 1 else spec.shape[1:]
    return DataError(
        expected=f"items of {_dims('?' if dim is None else dim for dim in item)} for {spec.layout}",
        got=_dims(shape[1:]),
        where=where,
    )


def require_finite(pieces: Iterable[NDArray[Any]], where: str) -> None:
    """Raise DataError at the first NaN or infinity; the pieces follow one another on axis 0."""
    start = 0
    for piece in pieces:
        found = nonfinite_row(piece)
        if found is not None:
            raise DataError(
                expected="finite numbers", got=found[1], where=f"{where}, sample {start + found[0]}"
            )
        start += len(piece)


def _dims(shape: Iterable[int | str]) -> str:
    return f"[{','.join(str(dim) for dim in shape)}]"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
