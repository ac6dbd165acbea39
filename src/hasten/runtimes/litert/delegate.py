"""External delegates: libraries that are handed the operators they can run.

A library follows LiteRT's interface for external delegates: it exports
``tflite_plugin_create_delegate`` and ``tflite_plugin_destroy_delegate``. Source:
``tflite/delegates/external/external_delegate_interface.h`` of LiteRT.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import msgspec

from hasten.errors import OptionError, RuntimeFailureError

__all__ = ["Library", "load", "parse", "resolved"]

_FUNCTIONS = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


class Library(msgspec.Struct, frozen=True):
    """A delegate's library and the options it is made with.

    A ``path`` without a folder is looked for where the system looks for libraries.
    """

    path: str
    options: dict[str, str] = {}

    @property
    def name(self) -> str:
        """What to call it: the name of its file."""
        return Path(self.path).name

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.path}:{options}" if options else self.path


def parse(text: str) -> Library:
    """Read ``lib.so`` or ``lib.so:key=value,key=value``; raises OptionError.

    >>> parse("libnpu.so:cache=/tmp/c,level=2")
    Library(path='libnpu.so', options={'cache': '/tmp/c', 'level': '2'})
    """
    path, _, written = text.partition(":")
    pairs = [pair.partition("=") for pair in written.split(",")] if written else []
    if not path or not all(key and equals for key, equals, _ in pairs):
        raise OptionError(
            expected="a library with options, such as lib.so:key=value,key=value",
            got=repr(text),
            where="--delegate",
        )
    return Library(path, {key: value for key, _, value in pairs})


def resolved(text: str) -> str:
    """The same with an absolute path where it names a file: a worker may run elsewhere."""
    library = parse(text)
    if "/" not in library.path and not Path(library.path).is_file():
        return str(library)
    path = str(Path(library.path).expanduser().absolute())
    return str(msgspec.structs.replace(library, path=path))


def load(library: Library) -> Any:
    """Make the delegate; raises RuntimeFailureError with what is wrong with the library."""
    from ai_edge_litert.interpreter import load_delegate

    _require_delegate(library)
    try:
        return load_delegate(library.path, library.options)
    except ValueError as error:
        # The first line names the library; what it reports comes after it.
        said = " ".join(str(error).partition("\n")[2].split()) or "it gives no reason"
        raise RuntimeFailureError(f"{library.name} made no delegate: {said}") from error


def _require_delegate(library: Library) -> None:
    """Look before LiteRT does: its own object complains a second time when it is taken apart."""
    try:
        opened = ctypes.CDLL(library.path)
    except OSError as error:
        raise RuntimeFailureError(f"the delegate cannot be loaded: {error}") from error
    missing = [name for name in _FUNCTIONS if not hasattr(opened, name)]
    if missing:
        raise RuntimeFailureError(
            f"{library.name} is no delegate: it has no function {' and no '.join(missing)}"
        )
