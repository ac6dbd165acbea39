"""What was found of one part of one architecture."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["PARTS", "Kind", "Row"]

#: What is measured of each architecture, in this order.
PARTS = ("trainable", "deployed", "prunable", "int8", "harmless")

#: ``met`` and ``missed`` are measured; ``refused`` is an error of Hasten's own, in one line;
#: ``traceback`` is any other exception; ``crashed`` and ``hung`` ended the process.
Kind = Literal["met", "missed", "refused", "traceback", "crashed", "hung"]


class Row(msgspec.Struct, frozen=True):
    """One thing measured, such as ``deployed on litert``; ``reason`` says why it is not met."""

    architecture: str
    part: str
    kind: Kind
    figures: dict[str, float] = {}
    reason: str = ""
    seconds: float = 0.0
