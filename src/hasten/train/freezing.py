"""Which parameters stay: layers and weights that are named, or match a pattern."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from hasten.errors import OptionError
from hasten.graph import constants_of, parameter_names
from hasten.train.parameters import running_statistics, trainable_weights

if TYPE_CHECKING:
    import onnx

__all__ = ["frozen_names"]

#: How many names an error lists.
_LISTED = 3


def frozen_names(graph: onnx.ModelProto, patterns: Iterable[str]) -> set[str]:
    """Return the constants that ``patterns`` keep as they are.

    A pattern is the name of a weight, or of a layer, ``encoder.0``, whose weights begin with it,
    or of a node of the graph; ``*``, ``?`` and ``[...]`` stand for anything in it. Statistics of
    batch norms stay by the same names. Raises OptionError for one that matches nothing.
    """
    known = parameter_names(graph)
    aliases: dict[str, Collection[str]] = {} if known is None else dict(known.tied)
    held = constants_of(graph.graph)
    names = [*trainable_weights(graph), *running_statistics(graph)]
    names += [] if known is None else [name for name in known.fixed if name in held]
    layers = {
        node.name: [name for name in node.input if name in names]
        for node in graph.graph.node
        if node.name
    }
    found: set[str] = set()
    for pattern in patterns:
        matched = {
            name
            for name in names
            if any(_matches(one, pattern) for one in (name, *aliases.get(name, ())))
        }
        for layer, own in layers.items():
            if fnmatchcase(layer, pattern):
                matched.update(own)
        if not matched:
            raise _nothing(pattern, [*names, *(name for name, own in layers.items() if own)])
        found |= matched
    return found


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def _nothing(pattern: str, names: list[str]) -> OptionError:
    layers = [name.rpartition(".")[0] for name in names if "." in name]
    known = list(dict.fromkeys([*layers, *names]))
    near = get_close_matches(pattern, known, _LISTED, cutoff=0.4) or known[:_LISTED]
    return OptionError(
        expected="a pattern of layers or weights that the model has",
        got=pattern,
        where="freeze",
        hint=f"nearest: {', '.join(near)}" if near else "it has no weights",
    )
