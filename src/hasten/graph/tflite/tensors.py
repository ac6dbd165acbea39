"""Tensors of a .tflite file: shape, element type, bytes and scale, each held against the others."""

from __future__ import annotations

import numpy as np

from hasten.graph.tflite.flatbuffer import Table
from hasten.graph.tflite.program import Quantization, Tensor
from hasten.graph.tflite.refusal import Damaged
from hasten.graph.tflite.types import DTYPES, stored_bytes, unpacked

__all__ = ["TensorReader"]

#: NumPy's limit, and more than any runtime takes: a larger rank is a damaged file.
_MAX_RANK = 64

# Fields of Model, of Buffer, of Tensor and of QuantizationParameters.
_EXTERNAL_GROUPS, _EXTERNAL_BUFFERS = 8, 9
_DATA, _OFFSET, _SIZE = 0, 1, 2
_SHAPE, _TYPE, _BUFFER, _NAME, _QUANTIZATION, _VARIABLE, _SPARSITY, _SIGNATURE = range(8)
_EXTERNAL_BUFFER = 10
_SCALE, _ZERO_POINT, _DETAILS_TYPE, _DIMENSION = 2, 3, 4, 6

#: Element types that a scale belongs to; on others, converters leave one without meaning.
_QUANTIZED = frozenset({"int4", "int8", "int16", "uint8"})


class TensorReader:
    """Reads tensors one by one; what several of them share is read once."""

    def __init__(self, data: bytes, model: Table, buffers: list[int]) -> None:
        self._data = data
        self._buffers = buffers
        self._model = model
        self._copied = 0
        self._external = bool(model.tables(_EXTERNAL_BUFFERS) or model.tables(_EXTERNAL_GROUPS))

    def tensor(self, index: int, table: Table) -> Tensor:
        """Read one tensor. Raises Damaged with its index where its parts contradict each other."""
        try:
            return self._tensor(index, table)
        except Damaged as error:
            raise Damaged(f"tensor {index} with {error}") from None

    def _tensor(self, index: int, table: Table) -> Tensor:
        number = table.number(_TYPE, "b")
        dtype = DTYPES.get(number, f"TensorType {number}")
        shape = _dims(table, _SHAPE)
        declared = _dims(table, _SIGNATURE) or shape
        if len(declared) != len(shape):
            raise Damaged(f"shape {list(shape)} and shape signature {list(declared)}")
        # A free axis of the signature has a size in the shape; older files have it in neither.
        plain = tuple(1 if dim < 0 else dim for dim in shape)
        made = Tensor(
            index,
            self._name(table),
            dtype,
            plain,
            tuple(
                None if -1 in {dim, size} else dim
                for dim, size in zip(declared, shape, strict=True)
            ),
            trouble=self._trouble(table, number),
        )
        if not made.trouble:
            made.data = self._elements(table, made)
            made.quantization = _quantization(table.table(_QUANTIZATION), made)
        if made.quantization is not None:
            self._copy(made.quantization.zero_point.size)
        return made

    def _name(self, table: Table) -> str:
        self._copy(table.span(_NAME)[1])
        return table.text(_NAME)

    def _copy(self, count: int) -> None:
        """Tables may share what they lead to, so a small file could ask for much memory."""
        self._copied += count
        if self._copied > len(self._data):
            raise Damaged(f"more names and scales than fit into {len(self._data)} bytes")

    def _trouble(self, table: Table, number: int) -> str:
        """What the file is allowed to hold, and the graph in the middle has no equal of."""
        quantization = table.table(_QUANTIZATION)
        if number not in DTYPES:
            return f"is of TensorType {number}"
        if table.table(_SPARSITY) is not None:
            return "is sparse"
        if table.number(_VARIABLE, "?"):
            return "is a variable"
        if self._external and table.number(_EXTERNAL_BUFFER, "I"):
            return "has its bytes in another file"
        if quantization is not None and quantization.number(_DETAILS_TYPE, "B"):
            return "is quantized in another way than with scale and zero point"
        return ""

    def _elements(self, table: Table, tensor: Tensor) -> np.ndarray | None:
        index = table.number(_BUFFER, "I")
        if index >= max(len(self._buffers), 1):
            raise Damaged(f"buffer {index} of {len(self._buffers)}")
        at, size = self._bytes(index) if self._buffers else (0, 0)
        if not size:
            return None
        needed = stored_bytes(tensor.dtype, tensor.size)
        if needed is None:
            tensor.trouble = "is of texts"
            return None
        if size != needed:
            raise Damaged(
                f"{size} bytes for {tensor.dtype}{list(tensor.shape)}, which has {needed}"
            )
        if tensor.dtype == "int4":
            self._copy(size)
        return unpacked(self._data, at, tensor.dtype, tensor.shape)

    def _bytes(self, index: int) -> tuple[int, int]:
        """Where a buffer lies in the file: within its table, or behind all tables."""
        buffer = self._model.at(self._buffers[index])
        at, size = buffer.span(_DATA)
        if size:
            return at, size
        at, size = buffer.number(_OFFSET, "Q"), buffer.number(_SIZE, "Q")
        if at <= 1 or not size:  # 0 and 1 say that there are no bytes, and are set by converters
            return 0, 0
        if at + size > len(self._data):
            raise Damaged(f"bytes {at} to {at + size} of {len(self._data)}")
        return at, size


def _dims(table: Table, slot: int) -> tuple[int, ...]:
    found = table.array(slot, "<i4")
    if found.size > _MAX_RANK:
        raise Damaged(f"{found.size} dimensions")
    dims: tuple[int, ...] = tuple(found.tolist())
    if any(dim < -1 for dim in dims):
        raise Damaged(f"shape {list(dims)}")
    return dims


def _quantization(table: Table | None, tensor: Tensor) -> Quantization | None:
    if table is None or tensor.dtype not in _QUANTIZED:
        return None
    scale = np.asarray(table.array(_SCALE, "<f4"), np.float32)
    zero_point = np.asarray(table.array(_ZERO_POINT, "<i8"), np.int64)
    if not scale.size:
        return None
    if not np.all(np.isfinite(scale)) or np.any(scale < 0):
        raise Damaged(f"a scale of {scale[~(np.isfinite(scale) & (scale >= 0))][0]}")
    if np.any(scale == 0):
        tensor.trouble = "has a scale of 0"
    if zero_point.size not in {0, 1, scale.size}:
        raise Damaged(f"{scale.size} scales and {zero_point.size} zero points")
    points = np.zeros(scale.size, np.int64)
    if zero_point.size:
        points += zero_point
    limits = np.iinfo("int8" if tensor.dtype == "int4" else tensor.dtype)
    if points.min() < limits.min or points.max() > limits.max:
        raise Damaged(f"a zero point outside of {tensor.dtype}")
    axis = table.number(_DIMENSION, "i")
    if scale.size == 1:
        return Quantization(scale, points)
    if not 0 <= axis < tensor.rank or tensor.shape[axis] != scale.size:
        raise Damaged(f"{scale.size} scales along axis {axis} of {list(tensor.shape)}")
    return Quantization(scale, points, axis)
