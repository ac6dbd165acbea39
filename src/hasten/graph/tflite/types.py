"""Element types of the schema, and constants of each as arrays."""

from __future__ import annotations

import math

import numpy as np

from hasten.graph.signature import numpy_dtype

__all__ = ["DTYPES", "stored_bytes", "unpacked"]

#: TensorType of schema.fbs by number, as names of NumPy or ml_dtypes.
DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "str",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    11: "complex128",
    12: "uint64",
    15: "uint32",
    16: "uint16",
    17: "int4",
    18: "bfloat16",
}


def stored_bytes(dtype: str, size: int) -> int | None:
    """Bytes that so many elements take; None for texts, which say so themselves.

    >>> stored_bytes("int4", 3)
    2
    """
    if dtype == "str":
        return None
    if dtype == "int4":
        return (size + 1) // 2
    return size * numpy_dtype(dtype).itemsize


def unpacked(data: bytes, offset: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The elements of a constant: a view of the file, except for int4, which becomes int8.

    Two of these share a byte, the first in its lower half.

    >>> unpacked(bytes([0x2F]), 0, "int4", (2,)).tolist()
    [-1, 2]
    """
    size = math.prod(shape)
    if not size:
        return np.zeros(shape, "int8" if dtype == "int4" else numpy_dtype(dtype))
    if dtype != "int4":
        return np.frombuffer(data, numpy_dtype(dtype), size, offset).reshape(shape)
    pairs = np.frombuffer(data, np.int8, (size + 1) // 2, offset)
    halves = np.stack([np.left_shift(pairs, 4) >> 4, pairs >> 4], axis=-1)
    return halves.reshape(-1)[:size].reshape(shape)
