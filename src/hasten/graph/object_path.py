"""Objects named on the command line as ``package.module:callable``."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from hasten.errors import InputError, OptionError, foreign

__all__ = ["import_object", "is_object_path"]

_OBJECT_PATH = re.compile(
    r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)"
)


def is_object_path(text: str) -> bool:
    """Whether the text has the form ``package.module:callable``.

    >>> is_object_path("package.module:make"), is_object_path("C:/models/net.onnx")
    (True, False)
    """
    return _OBJECT_PATH.fullmatch(text) is not None


def import_object(path: str, *, where: str, error: type[InputError] = OptionError) -> Any:
    """Import ``package.module:name``, with the current directory on ``sys.path``.

    The directory stays there, so that what the object imports later is found as well. ``where``
    goes into the message, such as ``--data``; ``error`` is the kind to raise when the path has
    another form, the module cannot be imported or has no such name.

    >>> import_object("math:sqrt", where="--metric")(9.0)
    3.0
    """
    match = _OBJECT_PATH.fullmatch(path)
    if match is None:
        raise error(expected="package.module:callable", got=repr(path), where=where)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    expected = f"a module '{match['module']}' that can be imported"
    with foreign(error, expected=expected, where=where):
        found: Any = importlib.import_module(match["module"])
    for name in match["name"].split("."):
        if not hasattr(found, name):
            raise error(
                expected=f"'{match['name']}' in module '{match['module']}'",
                got="no such name",
                where=where,
            )
        found = getattr(found, name)
    return found
