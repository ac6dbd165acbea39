"""Samples from an .npz file: one array per input by name, and optional ``labels``."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from hasten.data.samples import Samples
from hasten.errors import DataError, foreign
from hasten.graph import Signature
from hasten.plain_file import open_plain, shown

__all__ = ["read_npz"]

_WHOLE = "a whole .npz archive of plain arrays"
_NPY = b"\x93NUMPY"
_MAX_ARRAYS = 10_000
#: Compressed arrays may become so much, whatever the file's size, and so many times the file's.
_UNPACKED_BYTES, _UNPACKED_TIMES = 512 * 2**20, 20
_PIECE_BYTES = 2**24


def read_npz(path: Path, signature: Signature) -> Samples:
    """Read all arrays of the file into memory; nothing in it is ever unpickled.

    Raises DataError when the file is missing, damaged, holds Python objects or becomes far more in
    memory than it is on disk, as no data does.
    """
    where = shown(path)
    with open_plain(path, expected="an .npz file", error=DataError) as file:
        if file.read(len(_NPY)) == _NPY:
            raise DataError(
                expected="an .npz archive with one array per input",
                got="a single array",
                where=where,
                hint="save it with numpy.savez",
            )
        file.seek(0)
        with foreign(DataError, expected=_WHOLE, where=where):
            arrays = _arrays(file, where)
    return Samples.from_mapping(arrays, signature, source=str(path))


def _arrays(file: BinaryIO, where: str) -> dict[str, NDArray[Any]]:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > _MAX_ARRAYS:
            raise DataError(
                expected=f"at most {_MAX_ARRAYS} arrays", got=str(len(members)), where=where
            )
        _require_room(sum(one.file_size for one in members), size, where)
        found = {}
        for member in members:
            with archive.open(member) as stream:
                array = _array(stream, member.file_size, f"{where}: {shown(member.filename)}")
            found[member.filename.removesuffix(".npy")] = array
    return found


def _require_room(unpacked: int, size: int, where: str) -> None:
    """Raise DataError for archives that are small on disk and fill memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = min(max(_UNPACKED_BYTES, _UNPACKED_TIMES * size), max(memory // 2, size))
    if unpacked > most:
        raise DataError(
            expected=f"arrays of at most {most / 1e9:.1f} GB in a file of {size / 1e6:.1f} MB",
            got=f"{unpacked / 1e9:.1f} GB",
            where=where,
            hint="save it with numpy.savez, which does not compress",
        )


def _array(stream: IO[bytes], size: int, where: str) -> NDArray[Any]:
    """Read an array whose header says no more than there is of it in the archive."""
    version = npy_format.read_magic(stream)
    read = {
        (1, 0): npy_format.read_array_header_1_0,
        (2, 0): npy_format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise DataError(expected="a .npy of version 1 or 2", got=str(version), where=where)
    shape, by_columns, dtype = read(stream)
    if dtype.hasobject:
        raise DataError(expected="plain arrays", got="Python objects", where=where)
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 <= needed <= size:
        raise DataError(
            expected=f"the {size} bytes of its member",
            got=f"{dtype}{list(shape)}, which is {needed} bytes",
            where=where,
        )
    content = np.empty(needed, np.uint8)
    at = 0
    while at < needed:
        piece = stream.read(min(_PIECE_BYTES, needed - at))
        if not piece:
            raise DataError(expected=f"{needed} bytes", got=str(at), where=where)
        content[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    if stream.read(1):  # to the end, where the checksum is compared
        raise DataError(expected=f"{needed} bytes", got="more", where=where)
    array = content.view(dtype) if dtype.itemsize else np.empty(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if by_columns else "C")
