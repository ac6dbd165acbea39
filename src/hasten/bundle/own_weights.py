"""Whether the model of a bundle keeps its weights to itself."""

from __future__ import annotations

import mmap
from pathlib import Path

from hasten.bundle.contents import some
from hasten.errors import BundleError, one_line
from hasten.graph.external_data import external_tensors
from hasten.plain_file import open_plain

__all__ = ["require_own_weights"]

#: The key that each entry of external data has to have, spelt out in the file (onnx.proto).
_KEY = b"location"


def require_own_weights(path: Path) -> None:
    """Raise BundleError where an .onnx file of a bundle takes weights from other files.

    A runtime would read them, and they are no part of what the bundle was written and digested
    with. The file is parsed only where the word is in it that such an entry needs.
    """
    expected = "a model with its weights inside, as bundles are written"
    with open_plain(path, expected=expected, error=BundleError) as file:
        if not _holds(file.fileno()):
            return
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        try:
            outside = external_tensors(onnx.ModelProto.FromString(file.read()))
        except DecodeError as error:
            got = one_line(error)
            raise BundleError(expected="an ONNX model", got=got, where=str(path)) from None
    if outside:
        names = some([tensor.name for tensor in outside])
        raise BundleError(expected=expected, got=f"external data for {names}", where=str(path))


def _holds(descriptor: int) -> bool:
    try:
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
            return content.find(_KEY) >= 0
    except ValueError:  # an empty file
        return False
