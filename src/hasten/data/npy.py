"""Arrays on disk as .npy: written piece by piece, opened without reading them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from hasten.errors import OutputError
from hasten.graph import numpy_dtype

__all__ = ["as_bytes", "open_npy", "write_npy"]


def as_bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array in C order, without a copy where it already is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def write_npy(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]
) -> None:
    """Write the pieces, one after another along axis 0, as one array of this shape.

    Only one piece is in memory at a time. Plain writes rather than a memory map, because a full
    disk is then an error (OutputError) and not a killed process. A dtype that NumPy's format does
    not know, such as bfloat16, is stored as unsigned integers of its width.
    """
    stored = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
    header = {"descr": stored.str, "fortran_order": False, "shape": shape}
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            npy_format.write_array_header_1_0(file, header)
            for piece in pieces:
                file.write(as_bytes(piece))
        part.replace(path)
    except OSError as problem:
        raise OutputError(
            expected="a place to write the samples to",
            got=problem.strerror or str(problem),
            where=str(path),
        ) from problem
    finally:
        part.unlink(missing_ok=True)


def open_npy(path: Path, dtype: str) -> NDArray[Any]:
    """Map an array of this dtype into memory, read-only; raises OSError or ValueError."""
    stored: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored if stored.dtype.name == dtype else stored.view(numpy_dtype(dtype))
