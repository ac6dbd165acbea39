"""Where what took long to make is kept from one run to the next."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "publish"]


def cache_folder() -> Path:
    """Return ``$HASTEN_CACHE`` or the user's cache folder; it may not be there yet.

    Source: XDG Base Directory Specification, ``$XDG_CACHE_HOME``.
    """
    named = os.environ.get("HASTEN_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "hasten"


def publish(part: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was first with the same.

    Raises OSError where it cannot have that name.
    """
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
