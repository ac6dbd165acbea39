"""What an entry in the table of operators is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from hasten.runtimes.litert.lowering.builder import Builder
from hasten.runtimes.litert.lowering.node import Node

__all__ = ["Lowering"]

#: Lowers one node: reads its inputs from the builder, emits operators, binds its outputs.
#: Raises Unsupported with the reason where TFLite has no equal.
Lowering: TypeAlias = Callable[[Node, Builder], None]
