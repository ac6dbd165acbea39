"""Why a model is not served, as clients may read it: without the folders of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["without_folders"]

#: The folders of an absolute path, up to the name at its end. What stands before the first slash
#: tells it from a URL, a relative path, a ratio or a type.
_FOLDERS = re.compile(r"(?<![\w.:/<])/(?:[^/\s'\"`:,;()<>]+/)+")


def without_folders(text: str, known: Iterable[str] = ()) -> str:
    """Return a message with only the last name of each absolute path in it.

    ``known`` are folders that may have spaces in their names, which no pattern tells from words.

    >>> without_folders("Expected a model, got none - at /srv/models/net/1/model.onnx")
    'Expected a model, got none - at model.onnx'
    >>> without_folders("/my models/net.onnx: see https://a.b/c, 3/4 or net/1", ["/my models"])
    'net.onnx: see https://a.b/c, 3/4 or net/1'
    """
    for folder in sorted(known, key=len, reverse=True):
        text = text.replace(folder.rstrip("/") + "/", "")
    return _FOLDERS.sub("", text)
