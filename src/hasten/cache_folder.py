"""Where what took long to make is kept from one run to the next."""

from __future__ import annotations

import os
from pathlib import Path

from hasten.errors import OutputError

__all__ = ["cache_folder", "private_folder", "publish"]


def cache_folder() -> Path:
    """Return ``$HASTEN_CACHE`` or the user's cache folder; it may not be there yet.

    Raises OutputError where the user has none.

    Source: XDG Base Directory Specification, ``$XDG_CACHE_HOME``.
    """
    named = os.environ.get("HASTEN_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "hasten"
    except RuntimeError:  # a user without an entry in /etc/passwd, as in many a container
        raise OutputError(
            expected="a home folder to keep results in",
            got="none: HOME is not set, and the user has no entry in the system's list",
            where="the cache folder",
            hint="set HASTEN_CACHE to a folder, or HOME",
        ) from None


def private_folder(path: Path) -> None:
    """Make a folder that nobody else may look into, and those above it that are missing.

    One that is there keeps the rights that its owner gave it. Raises OSError.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def publish(part: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was first with the same.

    Raises OSError where it cannot have that name.
    """
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
