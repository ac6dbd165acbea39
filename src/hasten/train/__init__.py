"""Training: any graph as a PyTorch module, the losses, and the loop.

Names are loaded when first used: all of them need torch, which is the extra ``torch``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from hasten.errors import MissingExtraError

if TYPE_CHECKING:
    from hasten.train.module import GraphModule

__all__ = ["GraphModule"]

_HOMES = {"GraphModule": "module"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hasten.train' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"hasten.train.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", needed_by=f"hasten.train.{name}") from error


def __dir__() -> list[str]:
    return __all__
