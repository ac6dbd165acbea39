"""One item of Python data: a sample or a batch, as a dict, a tuple or an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hasten.data.tensors import is_array, plain
from hasten.errors import DataError
from hasten.graph import Signature, TensorSpec, numpy_dtype

__all__ = ["LABEL_KEYS", "Row", "read_row"]

LABEL_KEYS = ("labels", "label")


class Row(NamedTuple):
    """Arrays by input name and a label: of one sample, or of a batch along the first axis."""

    arrays: dict[str, NDArray[Any]]
    label: Any
    is_batch: bool

    @property
    def names(self) -> list[str]:
        """What there is, for messages."""
        return [*self.arrays, *([] if self.label is None else ["labels"])]


def read_row(item: object, signature: Signature, where: str) -> Row:
    """Read one item; DataError for what is not the inputs of the model, with or without a label."""
    values, label = _parts(item, signature, where)
    arrays = {
        spec.name: _array(values[spec.name], spec, f"{where}: {spec.name}")
        for spec in signature.inputs
        if spec.name in values
    }
    missing = [spec.name for spec in signature.inputs if spec.name not in arrays]
    if missing:
        raise DataError(
            expected=f"a value for input '{missing[0]}'",
            got=", ".join(f"'{name}'" for name in values) or "none",
            where=where,
        )
    batches = {name: arrays[name].ndim >= max(1, _rank(signature, name)) for name in arrays}
    if len(set(batches.values())) > 1:
        said = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise DataError(
            expected="one sample for all inputs, or a batch for all", got=said, where=where
        )
    return Row(arrays, label, all(batches.values()))


def _rank(signature: Signature, name: str) -> int:
    return len(signature.input(name).shape)


def _parts(item: object, signature: Signature, where: str) -> tuple[dict[str, Any], Any]:
    """Return what is given for each input, and the label."""
    inputs = [spec.name for spec in signature.inputs]
    if isinstance(item, Mapping):
        return _of_mapping(item, inputs, where)
    if isinstance(item, Sequence) and not isinstance(item, str | bytes) and not is_array(item):
        if _holds_parts(item, signature):
            return _of_sequence(item, signature, where)
        if len(inputs) > 1:
            raise DataError(
                expected=f"{len(inputs)} inputs ({', '.join(inputs)}), with or without a label",
                got=f"{len(item)} values",
                where=where,
            )
    if len(inputs) != 1:
        names = ", ".join(f"'{name}'" for name in inputs)
        raise DataError(
            expected=f"a dict or tuple of the inputs {names}",
            got=type(item).__name__,
            where=where,
        )
    return {inputs[0]: item}, None


def _of_mapping(
    item: Mapping[Any, Any], inputs: Sequence[str], where: str
) -> tuple[dict[str, Any], Any]:
    label = next((key for key in LABEL_KEYS if key in item and key not in inputs), None)
    unknown = [str(key) for key in item if key not in inputs and key != label]
    if unknown:
        raise DataError(
            expected=f"only the model's inputs {', '.join(map(repr, inputs))}, and labels",
            got=", ".join(map(repr, unknown)),
            where=where,
            hint="leave out or rename what the model does not take",
        )
    return {str(key): value for key, value in item.items() if key != label}, (
        None if label is None else item[label]
    )


def _holds_parts(item: Sequence[Any], signature: Signature) -> bool:
    """Whether a sequence is inputs and a label, and not the values of one array."""
    count = len(signature.inputs)
    if not item:
        return False
    if _holds_inputs(item[0], signature):
        return len(item) <= 2  # noqa: PLR2004 - (inputs, label)
    return len(item) in {count, count + 1} and _may_be(item[0], signature.inputs[0])


def _holds_inputs(first: Any, signature: Signature) -> bool:
    """Whether the first part of an item is all inputs, by name or in their order."""
    if isinstance(first, Mapping):
        return True
    count = len(signature.inputs)
    is_sequence = isinstance(first, tuple | list) and len(first) == count > 1
    return is_sequence and _may_be(first[0], signature.inputs[0])


def _may_be(value: Any, spec: TensorSpec) -> bool:
    """Whether a value has the axes of a sample of this input, or of a batch."""
    try:
        return plain(value, spec.name).ndim >= len(spec.shape) - 1
    except DataError:
        return True  # it is no array: that is said where it is read


def _of_sequence(
    item: Sequence[Any], signature: Signature, where: str
) -> tuple[dict[str, Any], Any]:
    inputs = [spec.name for spec in signature.inputs]
    first, count = item[0], len(inputs)
    if _holds_inputs(first, signature):
        values, label = _parts(first, signature, where)
        return values, item[1] if len(item) > 1 else label
    return dict(zip(inputs, item, strict=False)), item[count] if len(item) > count else None


def _array(value: Any, spec: TensorSpec, where: str) -> NDArray[Any]:
    """Return an array; Python's own numbers, which have no dtype, take that of the input."""
    array = plain(value, where)
    if is_array(value) or array.dtype.kind not in "bif":
        return array
    try:
        wanted = numpy_dtype(spec.dtype)
    except TypeError:
        return array
    if array.dtype.kind == "f" and np.dtype(wanted).kind in "biu":
        return array
    cast = array.astype(wanted)
    exact = array.dtype.kind == "f" or np.array_equal(cast.astype(array.dtype), array)
    return cast if exact else array
