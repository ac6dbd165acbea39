"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hasten.errors import OutputError

__all__ = ["require_free_file", "write_whole"]


def require_free_file(path: Path, *, force: bool) -> None:
    """Raise OutputError unless a file can be written here: asked before any work.

    With ``force`` a file that is there may be replaced. Folders above that are missing are made.
    """
    if os.path.lexists(path) and not force:
        raise OutputError(
            expected="a path that is free",
            got="something that exists",
            where=str(path),
            hint="choose another, or give --force to replace it",
        )
    if path.is_dir():
        raise OutputError(expected="a path for a file", got="a folder", where=str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise _cannot_write(path, error) from None


def write_whole(path: Path, payload: bytes, *, mode: int = 0o644) -> None:
    """Write beside the path first, then rename; raises OutputError where it cannot."""
    try:
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        with open(descriptor, "wb") as file:
            file.write(payload)
        os.chmod(beside, mode)
        os.replace(beside, path)
    except BaseException as error:
        Path(beside).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from None
        raise


def _cannot_write(path: Path, error: OSError) -> OutputError:
    got = error.strerror or type(error).__name__
    return OutputError(expected="a place to write the model to", got=got, where=str(path))
