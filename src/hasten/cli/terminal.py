"""The terminal: where tables and lines for people go, and nothing of a stranger's acts on it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from hasten.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

__all__ = ["readable", "terminal"]

_Result = TypeVar("_Result")


def terminal(*, stderr: bool = False) -> Console:
    """Return the console of all verbs; what is printed is taken as it is, without markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def readable(found: _Result) -> _Result:
    r"""Return a result as it may be printed: every text in it ``printable``.

    >>> readable({"name\n": ["a", ("b\x1b", 1)]})
    {'name\\n': ['a', ('b\\x1b', 1)]}
    """
    return cast("_Result", _readable(found))


def _readable(found: object) -> object:
    if type(found) is str:
        return printable(found)
    if isinstance(found, dict):
        return {_readable(key): _readable(value) for key, value in found.items()}
    if isinstance(found, list | tuple | set | frozenset):
        make = getattr(found, "_make", type(found))
        return make([_readable(each) for each in found])
    if isinstance(found, msgspec.Struct):
        return msgspec.structs.replace(found, **_changed(found, found.__struct_fields__))
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        names = [field.name for field in dataclasses.fields(found) if field.init]
        return dataclasses.replace(found, **_changed(found, names))
    return found


def _changed(found: object, names: Iterable[str]) -> dict[str, object]:
    """Return those fields that are not readable as they are, in the form in which they are."""
    before = {name: getattr(found, name) for name in names}
    after = {name: _readable(value) for name, value in before.items()}
    return {name: after[name] for name in names if after[name] is not before[name]}
