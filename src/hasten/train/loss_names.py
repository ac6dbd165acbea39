"""Losses by name: those that are here, and the user's own."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeAlias

from hasten.errors import OptionError
from hasten.graph.object_path import import_object, is_object_path

__all__ = ["LOSSES", "OwnLoss", "own_loss", "require_loss", "taken_loss"]

#: Each loss with what it is, for messages and the docs.
LOSSES: dict[str, str] = {
    "auto": "what fits the labels and each output",
    "mse": "squared difference",
    "l1": "absolute difference",
    "cross_entropy": "of classes that exclude one another",
    "bce": "binary cross entropy of classes that are true or not each for itself",
    "focal": "cross entropy in which what is sure already counts less",
    "ctc": "connectionist temporal classification of class scores over steps",
    "iou": "overlap, of masks or of boxes",
}

#: Takes outputs by name, labels and a teacher's outputs by name, and returns a scalar tensor; what
#: there is not is None.
OwnLoss: TypeAlias = Callable[[Any, Any, Any], Any]

#: Functions that were given as such, by the names that stand for them in settings.
_GIVEN: dict[str, OwnLoss] = {}


def taken_loss(loss: Any) -> str:
    """Return the name of a loss: itself, or what stands for a function in this process."""
    if not callable(loss):
        return str(loss)
    function = getattr(loss, "__func__", loss)
    name = f"{loss.__module__}:{getattr(function, '__qualname__', type(loss).__name__)}"
    base, number = name, 1
    while _GIVEN.setdefault(name, loss) is not loss:
        number += 1
        name = f"{base}#{number}"
    return name


def require_loss(name: str) -> None:
    """Raise OptionError unless this is the name of a loss, or package.module:callable."""
    if name in LOSSES or name in _GIVEN or is_object_path(name):
        return
    near = get_close_matches(name, LOSSES, 1)
    raise OptionError(
        expected=f"{', '.join(LOSSES)} or package.module:callable",
        got=repr(name),
        where="loss",
        hint=f"did you mean {near[0]}?" if near else "",
    )


def own_loss(name: str) -> OwnLoss | None:
    """Return the user's function of this name; None for a loss that is here.

    Raises OptionError where there is none.
    """
    if name in LOSSES:
        return None
    if name in _GIVEN:
        return _GIVEN[name]
    function: Any = import_object(name, where="loss")
    if not callable(function):
        raise OptionError(expected="a callable", got=type(function).__name__, where=f"loss {name}")
    found: OwnLoss = function
    return found
