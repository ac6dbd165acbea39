"""Tensors of the V2 protocol: the names of its datatypes, and values to and from bytes and JSON.

Source: Open Inference Protocol (KServe V2), "Tensor Data Types" and "Tensor Data"; Triton's
"Binary Tensor Data Extension".
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Any

import ml_dtypes
import msgspec
import numpy as np

from hasten.errors import InvalidRequestError
from hasten.serve.http.steps import drained

__all__ = [
    "DATATYPES",
    "array_from_bytes",
    "bytes_from_array",
    "datatype_of",
    "element",
    "json_from_array",
    "read_elements",
    "write_elements",
    "write_json",
]

#: V2's names for NumPy's dtypes; BYTES holds elements of any length.
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
_NAMES = {dtype.name: name for name, dtype in DATATYPES.items()} | {"str": "BYTES"}

_LENGTH = struct.Struct("<I")
#: Elements, and numbers, that take less than a millisecond.
_STEP, _VALUES = 512, 4096


def datatype_of(dtype: str) -> str:
    """Return V2's name of a dtype of ours; raises KeyError for those it has no name for.

    >>> datatype_of("float32"), datatype_of("str")
    ('FP32', 'BYTES')
    """
    return _NAMES[dtype]


def array_from_bytes(
    data: bytes | bytearray | memoryview, datatype: str, shape: tuple[int, ...], name: str
) -> np.ndarray:
    """Return a view of little-endian bytes as a tensor; raises InvalidRequestError.

    BYTES are copied: each element is a length of 4 bytes, then that many.
    """
    if datatype == "BYTES":
        return drained(read_elements(bytes(data), shape, name))
    if datatype == "BOOL" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise InvalidRequestError(f"Expected bytes of 0 or 1 in BOOL data of input '{name}'")
    return np.frombuffer(data, DATATYPES[datatype]).reshape(shape)


def element(data: bytes | memoryview) -> bytes:
    r"""Return a text as the only element of BYTES: behind its length.

    >>> element(b"cat")
    b'\x03\x00\x00\x00cat'
    """
    return _LENGTH.pack(len(data)) + data


def read_elements(
    data: bytes, shape: tuple[int, ...], name: str
) -> Generator[None, None, np.ndarray]:
    """Do what array_from_bytes does with BYTES, in steps.

    Elements are UTF-8, because runtimes hold them as texts; raises InvalidRequestError for others.
    """
    count, at = _count(shape), 0
    found: list[str] = []
    while at < len(data):
        if len(found) == count or at + _LENGTH.size > len(data):
            raise _not_elements(count, name)
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise _not_elements(count, name)
        try:
            found.append(data[at : at + length].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"Expected UTF-8 in the elements of input '{name}', got {error.reason}"
                f" at byte {error.start} of one"
            ) from error
        at += length
        if len(found) % _STEP == 0:
            yield
    if len(found) != count:
        raise _not_elements(count, name)
    array = np.empty(len(found), np.object_)
    array[:] = found
    return array.reshape(shape)


def _not_elements(count: int, name: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Expected {count} elements, each a 4-byte length and that many bytes, got others"
        f" in binary data of input '{name}'"
    )


def bytes_from_array(array: np.ndarray) -> bytes | memoryview:
    """Return a tensor as the protocol's bytes; without a copy where it can."""
    if array.dtype.kind == "O":
        return drained(write_elements(array))
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8).data


def write_elements(array: np.ndarray) -> Generator[None, None, bytes]:
    """Return BYTES as the protocol's bytes, in steps."""
    pieces = []
    flat = array.ravel()
    for at in range(0, flat.size, _STEP):
        texts = [
            one if isinstance(one, bytes) else str(one).encode("utf-8")
            for one in flat[at : at + _STEP]
        ]
        pieces.append(b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text)))
        yield
    return b"".join(pieces)


def json_from_array(array: np.ndarray, name: str) -> bytes:
    """Return a tensor as a flat JSON array; raises InvalidRequestError where JSON has no word.

    NaN and infinity have none.
    """
    if array.dtype.kind == "V":  # bfloat16; the name of a dtype takes longer than all of this
        array = array.astype(np.float32)
    encoded = msgspec.json.encode(array.ravel().tolist())
    if array.dtype.kind == "f" and b"null" in encoded:
        raise InvalidRequestError(
            f"Output '{name}' holds NaN or infinity, which JSON has no word for:"
            " ask for it with binary_data"
        )
    return encoded


def write_json(array: np.ndarray, name: str) -> Generator[None, None, bytes]:
    """Do what json_from_array does, in steps."""
    pieces = []
    flat = array.ravel()
    for at in range(0, flat.size, _VALUES):
        pieces.append(json_from_array(flat[at : at + _VALUES], name)[1:-1])
        yield
    return b"[" + b",".join(pieces) + b"]"


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count
