"""What an entry in the table of operators is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.program import Operator

__all__ = ["Importing"]

#: Imports one operator: reads its inputs from the builder, emits nodes, binds its outputs.
#: Raises Unsupported with the reason where ONNX has no equal.
Importing: TypeAlias = Callable[[Operator, Builder], None]
