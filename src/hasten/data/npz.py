"""Samples from an .npz file: one array per input by name, and optional ``labels``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from hasten.data.samples import Samples
from hasten.errors import DataError, one_line
from hasten.graph import Signature

__all__ = ["read_npz"]


def read_npz(path: Path, signature: Signature) -> Samples:
    """Read all arrays of the file into memory; nothing in it is ever unpickled.

    Raises DataError when the file is missing, damaged or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            is_archive = isinstance(archive, NpzFile)
            arrays = {name: archive[name] for name in archive.files} if is_archive else {}
    except FileNotFoundError:
        raise DataError(expected="an .npz file", got="no such file", where=str(path)) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError) as problem:
        raise DataError(
            expected="a whole .npz archive of plain arrays", got=one_line(problem), where=str(path)
        ) from problem
    if not is_archive:
        raise DataError(
            expected="an .npz archive with one array per input",
            got="a single array",
            where=str(path),
            hint="save it with numpy.savez",
        )
    return Samples.from_mapping(arrays, signature, source=str(path))
