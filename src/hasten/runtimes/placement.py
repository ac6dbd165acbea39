"""Placement: which executor runs each operator of a compiled model, and what crosses between."""

from __future__ import annotations

from collections import Counter
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["KERNELS", "PlacedOperator", "Placement", "Placing", "Share"]

#: The executor that is there for whatever no delegate takes.
KERNELS = "builtin kernels"
#: As many nodes are named in one message.
_NAMED = 12


class PlacedOperator(msgspec.Struct, frozen=True):
    """An operator of the compiled model: its kind, the node it was made for, and who runs it.

    ``partition`` numbers the parts that are handed to an executor as one, from 0.
    """

    kind: str
    node: str
    executor: str
    partition: int

    def __str__(self) -> str:
        return f"{self.kind} (node {self.node})"


class Share(msgspec.Struct, frozen=True):
    """What one executor runs."""

    executor: str
    partitions: int
    operators: tuple[PlacedOperator, ...]

    @property
    def kinds(self) -> str:
        """How many operators of each kind, the most frequent first.

        >>> one = PlacedOperator("ADD", "sum", "XNNPACK", 0)
        >>> Share("XNNPACK", 1, (one, one)).kinds
        '2 ADD'
        """
        counts = Counter(operator.kind for operator in self.operators)
        return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


class Placement(msgspec.Struct, frozen=True):
    """Where every operator runs. ``wanted`` is the executor that was asked to run them all.

    ``crossing_bytes`` are those of the tensors that one part makes and another one reads in one
    run, counted once for each reader; to and from another device, inputs and outputs count too.
    """

    wanted: str
    partitions: int
    crossing_bytes: int
    operators: tuple[PlacedOperator, ...]

    @property
    def shares(self) -> tuple[Share, ...]:
        """What each executor runs: the wanted one first, then in the order of first use."""
        names = dict.fromkeys([self.wanted, *(one.executor for one in self.operators)])
        found = []
        for name in names:
            operators = tuple(one for one in self.operators if one.executor == name)
            parts = {one.partition for one in operators}
            if operators:
                found.append(Share(name, len(parts), operators))
        return tuple(found)

    @property
    def fallbacks(self) -> tuple[PlacedOperator, ...]:
        """The operators that the wanted executor did not take."""
        return tuple(one for one in self.operators if one.executor != self.wanted)

    @property
    def fallback(self) -> str:
        """The fallbacks in one sentence; empty where there are none."""
        left = self.fallbacks
        if not left:
            return ""
        named = ", ".join(str(one) for one in left[:_NAMED])
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        return (
            f"{len(left)} of {len(self.operators)} operators are not run by {self.wanted}:"
            f" {named}{more}"
        )


@runtime_checkable
class Placing(Protocol):
    """A session that knows where its operators run; not every runtime tells."""

    def placement(self) -> Placement:
        """Return where every operator runs, for the sizes of the last run."""
        ...
