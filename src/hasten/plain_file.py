"""Files that somebody gave: opened where they are regular and of a size that can be read.

Every reader of a file that may be a stranger's opens it here. A named pipe without a writer, or a
device, would be waited for without end; a name may be too long, or no text at all; and what is read
whole has to be small enough for it.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from hasten.errors import InputError, OptionError, one_line

__all__ = ["MAX_TEXT_BYTES", "open_plain", "read_plain", "read_plain_text", "shown"]

#: Lists, recipes, settings and keys are written by people, or as if by them.
MAX_TEXT_BYTES = 64 * 2**20

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe, which is no regular file",
    stat.S_IFSOCK: "a socket, which is no regular file",
    stat.S_IFCHR: "a device, which is no regular file",
    stat.S_IFBLK: "a device, which is no regular file",
}
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def open_plain(
    path: str | os.PathLike[str],
    *,
    expected: str,
    error: type[InputError] = OptionError,
    max_bytes: int | None = None,
    where: str = "",
) -> BinaryIO:
    """Open a regular file for reading; links are followed.

    Raises ``error``, in one line that says ``expected``, where there is none, where it is something
    else than a regular file or larger than ``max_bytes``, and where it may not be read. ``where``
    stands in the message for the path.
    """
    where = where or shown(path)
    try:
        # Asked before it is opened, for to open a device may do something; and of what was opened,
        # for it may have become another file meanwhile.
        _require_regular(os.stat(path), expected, error, max_bytes, where)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise error(expected=expected, got="no such file", where=where) from None
    except OSError as problem:
        got = problem.strerror or type(problem).__name__
        raise error(expected=expected, got=got, where=where) from None
    except ValueError as problem:  # a null byte, or what is no text at all
        raise error(expected=expected, got=str(problem), where=where) from None
    file = open(descriptor, "rb")  # noqa: SIM115 - it is the caller's to close
    try:
        _require_regular(os.fstat(descriptor), expected, error, max_bytes, where)
    except BaseException:
        file.close()
        raise
    return file


def read_plain(
    path: str | os.PathLike[str],
    *,
    expected: str,
    error: type[InputError] = OptionError,
    max_bytes: int = MAX_TEXT_BYTES,
    where: str = "",
) -> bytes:
    """Return the bytes of a file, as ``open_plain`` opens it."""
    opened = open_plain(path, expected=expected, error=error, max_bytes=max_bytes, where=where)
    with opened as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as problem:
            got = problem.strerror or type(problem).__name__
            raise error(expected=expected, got=got, where=where or shown(path)) from None
    if len(data) > max_bytes:  # it has grown meanwhile
        raise _too_large(len(data), expected, error, max_bytes, where or shown(path))
    return data


def read_plain_text(
    path: str | os.PathLike[str],
    *,
    expected: str,
    error: type[InputError] = OptionError,
    max_bytes: int = MAX_TEXT_BYTES,
    encoding: str = "utf-8",
) -> str:
    """Return a file of text; what is no UTF-8 is ``error`` too."""
    data = read_plain(path, expected=expected, error=error, max_bytes=max_bytes)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as problem:
        raise error(expected=expected, got=one_line(problem), where=shown(path)) from None


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return a path as a message has it: in one line, of text alone, and not without end.

    >>> shown("models/net.onnx"), shown("a\nb"), shown("caf\udce9")
    ('models/net.onnx', "'a\\nb'", "'caf\\udce9'")
    """
    text = os.fspath(path)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 300


def _require_regular(
    status: os.stat_result,
    expected: str,
    error: type[InputError],
    max_bytes: int | None,
    where: str,
) -> None:
    if not stat.S_ISREG(status.st_mode):
        got = _KINDS.get(stat.S_IFMT(status.st_mode), "something that is no regular file")
        raise error(expected=expected, got=got, where=where)
    if max_bytes is not None and status.st_size > max_bytes:
        raise _too_large(status.st_size, expected, error, max_bytes, where)


def _too_large(
    size: int, expected: str, error: type[InputError], max_bytes: int, where: str
) -> InputError:
    return error(expected=f"{expected} of at most {_size(max_bytes)}", got=_size(size), where=where)


def _size(count: int) -> str:
    """Return a number of bytes in words.

    >>> _size(64 * 2**20), _size(12)
    ('67.1 MB', '12 bytes')
    """
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
