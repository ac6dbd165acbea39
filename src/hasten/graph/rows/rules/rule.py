"""What a rule is: from where rows lie in the inputs of a node it says where they do in outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from hasten.graph.rows.node import Node
from hasten.graph.rows.tensor import Flow, Shape

__all__ = ["Rule", "Shapes"]

#: The shapes of an output, for each number of rows.
Shapes: TypeAlias = tuple[Shape, Shape]

#: One flow for each output, or one that holds for all; raises Undecided where it cannot tell.
Rule: TypeAlias = Callable[[Node, Sequence[Shapes]], Flow | Sequence[Flow]]
